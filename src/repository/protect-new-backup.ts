// The protection of a backup that is being made, in two parts: what it needs before its commit, itself after it.
// It must not protect a file of the new backup before the sidecar is there: after a crash that would be locked rubbish.

import { isoTime } from '../plumbing/clock.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import type { Guard } from './guard.ts';
import { lookAtProtection } from './look-at-protection.ts';
import { placeOf } from './open-backup.ts';
import type { RepositoryContext } from './repository-context.ts';
import { firstFault, runProtection } from './run-protection.ts';
import type { Sidecar } from './sidecar-fields.ts';

/**
 * Extends the ancestors as if the new backup were there, the full first. A crash behind it leaves them locked a little longer than somebody needs;
 * the other way round a locked backup could lose its parent. Throws what keeps the store from protecting them.
 */
export async function protectAncestors(
  context: RepositoryContext,
  sidecar: Sidecar,
  chain: readonly Sidecar[],
  { guard, sweptAt }: { readonly guard: Guard; readonly sweptAt?: number | undefined },
): Promise<ReadonlyMap<string, number>> {
  if (!context.immutability || chain.length === 0) return new Map();
  const only = new Set(chain.map(({ backup_id }) => backup_id));
  const plan = await lookAtProtection(context, placeOf(sidecar), { chain: [await asOfNow(context, sidecar), ...chain], only, sweptAt });
  const fault = firstFault(context, await runProtection(context, plan, guard));
  if (fault) throw fault;
  return new Map([...plan.dates].filter(([id]) => only.has(id)));
}

/** After the commit: whatever fails now, the backup is there, and is protected by the next look at the disk. Until then our own refusal holds. */
export async function protectNew(
  context: RepositoryContext,
  sidecar: Sidecar,
  chain: readonly Sidecar[],
  guard: Guard,
): Promise<{ readonly locked: ReadonlyMap<string, number>; readonly unprotected: ChainkeepError | undefined }> {
  const { backup_id: id } = sidecar;
  if (!context.immutability) return { locked: new Map(), unprotected: undefined };
  try {
    const plan = await lookAtProtection(context, placeOf(sidecar), {
      chain: [await asOfNow(context, sidecar), ...chain],
      only: new Set([id]),
    });
    const unprotected = firstFault(context, await runProtection(context, plan, guard));
    const until = plan.dates.get(id);
    return { locked: new Map(until === undefined ? [] : [[id, until]]), unprotected };
  } catch (error) {
    const message = `backup ${id} is complete, and could not be locked: ${error instanceof Error ? error.message : String(error)}`;
    const advice = 'it is not lost: run chainkeep repo protect NAME when the cause is gone';
    return {
      locked: new Map(),
      unprotected: new ChainkeepError('STORE_FAILED', message, { advice, cause: error, context: { backup_id: id } }),
    };
  }
}

/** Its lock begins now, whatever the clock said that its sidecar has its times from: one that was set back must not shorten what is promised. */
async function asOfNow({ time }: RepositoryContext, sidecar: Sidecar): Promise<Sidecar> {
  const { now } = await time();
  return Math.abs(now - Date.parse(sidecar.completed_at)) < HOUR_MS ? sidecar : { ...sidecar, completed_at: isoTime(now) };
}

const HOUR_MS = 3_600_000;
