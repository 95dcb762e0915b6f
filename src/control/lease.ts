// One writer per repository, VM and disk: holds a lease while a piece of work runs, and tells the work when it is lost.
// It must not know what the work writes.

import type { Catalog } from '../catalog/catalog.ts';
import { acquireLease, isHeld, type Lease, releaseLease, renewLease } from '../catalog/leases.ts';
import type { Owner } from '../catalog/owner-fields.ts';
import { ChainkeepError, isChainkeepError } from '../plumbing/errors.ts';
import type { Logger } from '../plumbing/logger.ts';
import type { Guard } from '../repository/guard.ts';
import { isProvablyDead } from './owner.ts';

export interface LeaseWanted {
  readonly repositoryId: string;
  readonly vmContextId: string;
  readonly diskId: number;
  readonly jobId: string;
  readonly owner: Owner;
  readonly logger: Logger;
  /** Milliseconds between renewals; default 10 000. */
  readonly heartbeat?: number;
  /** Milliseconds after the last renewal until others may take it; default 60 000. */
  readonly expiry?: number;
}

/**
 * Runs `work` while this process holds the lease, then releases it. The lease of a dead owner is taken over at once, that of one who cannot be
 * judged after its expiry. Throws BACKUP_IN_PROGRESS, which names the holder, LEASE_LOST, and whatever `work` throws.
 */
export async function withLease<T>(catalog: Catalog, wanted: LeaseWanted, work: (guard: Guard) => Promise<T>): Promise<T> {
  const expiry = wanted.expiry ?? 60_000;
  const lease = await takeLease(catalog, wanted, expiry);
  const lost = new AbortController();
  const stop = keepAlive(catalog, lease, wanted, expiry, lost);
  const held = async (): Promise<boolean> => !lost.signal.aborted && (await isHeld(catalog, lease.id));
  try {
    const assertHeld = async (): Promise<void> => {
      if (!(await held())) throw leaseLost(lease);
    };
    return await work({ signal: lost.signal, assertHeld });
  } catch (error) {
    // Whoever took the lease over has removed what was not committed: files that vanish under the work are its consequence, not the reason.
    // When the database cannot be asked, the error keeps its own name.
    if (isChainkeepError(error, 'STORE_FAILED') && !(await held().catch(() => true))) throw leaseLost(lease, error);
    throw error;
  } finally {
    stop();
    await release(catalog, lease, wanted.logger);
  }
}

async function takeLease(catalog: Catalog, wanted: LeaseWanted, expiry: number): Promise<Lease> {
  const mayReplace = (lease: Lease): boolean =>
    Date.parse(lease.expires_at) <= catalog.clock.now() || isProvablyDead(lease.owner, wanted.owner);
  const answer = await acquireLease(catalog, { ...wanted, expiry }, mayReplace);
  if ('held' in answer) throw inProgress(answer.held);
  if (answer.replaced) {
    const { job_id, owner } = answer.replaced;
    const why = isProvablyDead(owner, wanted.owner) ? 'which died' : 'which has not renewed it for too long';
    wanted.logger.log('warn', `took over the lease of job ${job_id} (process ${owner.pid} on ${owner.hostname}), ${why}`);
  }
  return answer.taken;
}

/** Renews until it is stopped or the lease is lost. A renewal that the database refuses is tried again until the expiry. */
function keepAlive(catalog: Catalog, lease: Lease, wanted: LeaseWanted, expiry: number, lost: AbortController): () => void {
  let expiresAt = Date.parse(lease.expires_at);
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  const beat = async (): Promise<void> => {
    try {
      if (await renewLease(catalog, lease.id, expiry)) expiresAt = catalog.clock.now() + expiry;
      else expiresAt = 0;
    } catch (error) {
      wanted.logger.log('warn', 'the lease could not be renewed, trying again', { error });
    }
    if (stopped) return;
    if (expiresAt > catalog.clock.now()) schedule();
    else lost.abort(leaseLost(lease));
  };
  const schedule = (): void => {
    timer = setTimeout(() => void beat(), wanted.heartbeat ?? 10_000);
    timer.unref();
  };
  schedule();
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}

/** The work is done either way: a lease that cannot be released ends by its expiry, or with this process. */
async function release(catalog: Catalog, lease: Lease, logger: Logger): Promise<void> {
  try {
    await releaseLease(catalog, lease.id);
  } catch (error) {
    logger.log('warn', 'the lease could not be released and will end by itself', { error, expires_at: lease.expires_at });
  }
}

function inProgress(lease: Lease): ChainkeepError {
  const { owner, job_id, acquired_at } = lease;
  return new ChainkeepError(
    'BACKUP_IN_PROGRESS',
    `job ${job_id} (process ${owner.pid} on ${owner.hostname}) has been at work on this disk since ${acquired_at}`,
    {
      advice: `wait until it has ended, or see what it does with: chainkeep jobs show ${job_id}`,
      context: { machine: owner.hostname, pid: owner.pid, since: acquired_at, job_id, expires_at: lease.expires_at },
      retryable: true,
    },
  );
}

function leaseLost(lease: Lease, cause?: unknown): ChainkeepError {
  return new ChainkeepError('LEASE_LOST', `the lease of disk ${lease.disk_id} ended while it was being written`, {
    advice: 'the process was stopped or could not reach the database for too long; nothing was committed, run the backup again',
    context: { job_id: lease.job_id, vm_context_id: lease.vm_context_id, repository_id: lease.repository_id },
    retryable: true,
    cause,
  });
}
