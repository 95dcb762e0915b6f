// A backup in an immutable repository whose store dies at its Nth operation, for good or for that one: afterwards all is protected, or nothing is there.

import { expect } from 'vitest';
import { ChainkeepError } from '../../src/plumbing/errors.ts';
import { DAY_MS } from '../../src/repository/lock-rules.ts';
import { faultyStore } from '../../src/store/testing/faulty-store.ts';
import { datedStore } from './dated-store.ts';
import { disk, LockSite } from './lock-site.ts';
import { heldGuard, PLACE, restoredBytes } from './scratch-repository.ts';

export interface LockFaults {
  readonly kind: 'marks' | 'dates';
  /** Is the operation at which it dies done, or not? */
  readonly effect: 'before' | 'after';
  /** Does it die for good, or does one operation fail? */
  readonly sticky: boolean;
  /** Every how many operations it dies. */
  readonly stride: number;
}

export async function tryLockFaults(scratch: (name: string) => string, { kind, effect, sticky, stride }: LockFaults): Promise<void> {
  // A folder of its own: what the stories of others left there would count.
  const site = new LockSite((name) => scratch(`${kind}-${effect}-${sticky ? 'for good' : 'once'}-${name}`));
  const outcomes = { kept: 0, gone: 0 };
  for (let failAt = 1, untouched = false; !untouched; failAt += stride) {
    await site.begin();
    const inner = kind === 'marks' ? site.test.store : datedStore(site.test.store, () => site.now);
    const repository = await site.test.through(inner);
    const full = await site.save(1, {}, repository);
    site.now += DAY_MS;
    const { store, operations } = faultyStore(inner, { failAt, sticky, effect });
    const made = await site.test
      .through(store)
      .then((through) => site.save(2, {}, through))
      .catch((error: unknown) => error);
    untouched = operations.length < failAt;
    const { sidecars } = await repository.readDisk(PLACE);
    outcomes[sidecars.length === 2 ? 'kept' : 'gone'] += 1;
    if (made instanceof Error) expect(made).toBeInstanceOf(ChainkeepError);
    else expect(sidecars.length).toBe(2);
    await site.expectProtected(repository, inner);
    await repository.removeRubbish(PLACE, heldGuard(), async () => 'dead');
    const { rubbish, damaged } = await repository.readDisk(PLACE);
    expect({ rubbish, damaged: damaged.size }).toEqual({ rubbish: [], damaged: 0 });
    const next = await site.save(3, {}, repository);
    expect(await restoredBytes(repository, next.sidecar.backup_id, scratch('out'))).toEqual(disk(3));
    expect(await restoredBytes(repository, full.sidecar.backup_id, scratch('out'))).toEqual(disk(1));
    await site.release();
  }
  expect(outcomes.kept).toBeGreaterThan(0);
  expect(outcomes.gone).toBeGreaterThan(0);
}
