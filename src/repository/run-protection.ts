// Runs what look-at-protection.ts found to be due: dates as files, marks and dates of the store.
// It must not decide anything, and removes no date but one that a later one has taken over.

import { type ChainkeepError, isChainkeepError } from '../plumbing/errors.ts';
import { writeBlob } from './blobs.ts';
import type { Guard } from './guard.ts';
import type { ProtectionPlan, ProtectionStep } from './look-at-protection.ts';
import type { RepositoryContext } from './repository-context.ts';

export interface ProtectionOutcome {
  /** Backups that got a later date. */
  readonly locked: number;
  /** Files that the store protects from now on. */
  readonly protected: number;
  /** Those of them that were protected before, and from which somebody had taken it off. */
  readonly restored: readonly string[];
  readonly released: number;
  /** What could not be done; the next run tries it again. */
  readonly failures: readonly ChainkeepError[];
}

export const NOTHING_DONE: ProtectionOutcome = { locked: 0, protected: 0, restored: [], released: 0, failures: [] };

/**
 * Only the one writer of the disk may call it. A date that cannot be written throws; what the store then does with it is collected, because a backup
 * that we alone protect is better than one that nobody protects.
 */
export async function runProtection(context: RepositoryContext, { steps }: ProtectionPlan, guard: Guard): Promise<ProtectionOutcome> {
  if (steps.length === 0) return NOTHING_DONE;
  await guard.assertHeld();
  await context.assertOwned();
  const done = { locked: 0, protected: 0, restored: [] as string[], released: 0, failures: [] as ChainkeepError[] };
  const incomplete = new Set<string>();
  for (const step of steps) {
    if (step.action === 'protect' && step.isLast && incomplete.has(step.backupId)) continue;
    try {
      await runStep(context, step);
    } catch (error) {
      if (step.action === 'lock' || !isChainkeepError(error)) throw error;
      done.failures.push(error);
      incomplete.add(step.backupId);
      continue;
    }
    if (step.action === 'lock') done.locked++;
    if (step.action === 'protect') done.protected++;
    if (step.action === 'protect' && step.again) {
      done.restored.push(step.name);
      // Told at once, whatever becomes of the work that looked: to the next look all is in order again.
      context.logger.log('error', `ALARM: somebody took the protection off ${step.name}; it is protected again`, {
        name: step.name,
        alarm: true,
      });
    }
    if (step.action === 'release') done.released++;
  }
  return done;
}

async function runStep({ store }: RepositoryContext, step: ProtectionStep): Promise<void> {
  const { name } = step;
  switch (step.action) {
    case 'lock':
      return writeOnce(store, name);
    case 'protect':
      return store.protect(name, step.protection);
    case 'release':
      return store.release(name);
    case 'drop':
      await store.release(name);
      return store.delete(name);
  }
}

/** The name says all: one that is there is as good. */
async function writeOnce(store: RepositoryContext['store'], name: string): Promise<void> {
  try {
    await writeBlob(store, name, new Uint8Array(0), { ifAbsent: true });
  } catch (error) {
    if (!isChainkeepError(error, 'BLOB_EXISTS')) throw error;
  }
}

/**
 * For a commit, which must not go on without them. That a file system takes no marks is no fault: our refusal holds. A store that keeps dates has
 * promised more.
 */
export function firstFault({ store }: RepositoryContext, { failures }: ProtectionOutcome): ChainkeepError | undefined {
  const isOurs = store.capabilities.retentionMark !== undefined;
  return failures.find((failure) => !isOurs || !isChainkeepError(failure, 'NOT_SUPPORTED'));
}
