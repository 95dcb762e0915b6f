// Who reads a backup says so for as long as it does; who wants to take a backup away waits until nobody reads it any more.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Catalog } from '../catalog/catalog.ts';
import type { Owner } from '../catalog/owner-fields.ts';
import { addReaders, listReaders, type Reader, removeReaders, renewReaders } from '../catalog/readers.ts';
import { ChainkeepError, throwIfCancelled } from '../plumbing/errors.ts';
import type { Logger } from '../plumbing/logger.ts';
import { isProvablyDead } from './owner.ts';

export interface Reading {
  readonly repositoryId: string;
  /** Those that the catalog does not know are left out. */
  readonly backupIds: readonly string[];
  readonly jobId: string;
  readonly owner: Owner;
  readonly logger: Logger;
  /** Milliseconds between renewals; default 10 000. */
  readonly heartbeat?: number;
  /** Milliseconds after the last renewal until nobody waits for this reader; default 60 000. */
  readonly expiry?: number;
}

/** Runs `work` while the catalog says that its job reads these backups. */
export async function withReading<T>(catalog: Catalog, reading: Reading, work: () => Promise<T>): Promise<T> {
  const expiry = reading.expiry ?? 60_000;
  const ids = await addReaders(catalog, { ...reading, expiry });
  const complain = (error: unknown): void =>
    reading.logger.log('warn', 'the catalog could not be told that backups are read, or not any more', { error });
  const timer = setInterval(() => void renewReaders(catalog, ids, expiry).catch(complain), reading.heartbeat ?? 10_000).unref();
  try {
    return await work();
  } finally {
    clearInterval(timer);
    await removeReaders(catalog, ids).catch(complain);
  }
}

export interface ReadersWait {
  readonly owner: Owner;
  /** Milliseconds. */
  readonly limit: number;
  readonly signal: AbortSignal;
  readonly logger: Logger;
}

const LOOK_AGAIN_MS = 200;

/** Waits until nobody reads the backup; the dead and those that have not renewed do not count. Throws BACKUP_IN_USE after the limit. */
export async function waitForReaders(catalog: Catalog, backupId: string, { owner, limit, signal, logger }: ReadersWait): Promise<void> {
  const counts = ({ owner: reader, expires_at: expires }: Reader): boolean =>
    !isProvablyDead(reader, owner) && Date.parse(expires) > catalog.clock.now();
  const began = catalog.clock.monotonic();
  let told = false;
  while (true) {
    throwIfCancelled(signal);
    const reader = (await listReaders(catalog, backupId)).find(counts);
    if (!reader) return;
    if (catalog.clock.monotonic() - began > limit) throw inUse(backupId, reader);
    if (!told) logger.log('info', `waiting for job ${reader.job_id}, which reads the backup`);
    told = true;
    await sleep(LOOK_AGAIN_MS);
  }
}

function inUse(backupId: string, { job_id, owner, acquired_at }: Reader): ChainkeepError {
  return new ChainkeepError(
    'BACKUP_IN_USE',
    `job ${job_id} (process ${owner.pid} on ${owner.hostname}) has been reading ${backupId} since ${acquired_at}`,
    {
      advice: `wait until it has ended, or see what it does with: chainkeep jobs show ${job_id}`,
      context: { backup_id: backupId, job_id: job_id ?? undefined, machine: owner.hostname, pid: owner.pid, since: acquired_at },
      retryable: true,
    },
  );
}
