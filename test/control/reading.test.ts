// Who takes a backup away waits for who reads it: as long as the reader lives and says so, and no longer than the limit.

import { describe, expect, it } from 'vitest';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { completeBackup } from '../../src/catalog/complete-backup.ts';
import { listReaders } from '../../src/catalog/readers.ts';
import { currentOwner } from '../../src/control/owner.ts';
import { type ReadersWait, type Reading, waitForReaders, withReading } from '../../src/control/reading.ts';
import { silentLogger } from '../../src/plumbing/logger.ts';
import { addRepository, addVm, backupRow, openScratch } from '../catalog/scratch-catalog.ts';

interface Site {
  readonly catalog: Catalog;
  readonly reading: Reading;
  readonly wait: ReadersWait;
}

async function openSite(): Promise<Site> {
  const { catalog } = await openScratch();
  await addRepository(catalog);
  await addVm(catalog);
  await completeBackup(catalog, backupRow('full', 0));
  const owner = await currentOwner(catalog);
  const reading = { repositoryId: 'repo-1', backupIds: ['full', 'unknown'], jobId: 'job-1', owner, logger: silentLogger };
  return { catalog, reading, wait: { owner, limit: 300, signal: new AbortController().signal, logger: silentLogger } };
}

describe('a reader', () => {
  it('is waited for until it has ended, also by an error', async () => {
    const { catalog, reading, wait } = await openSite();
    const order: string[] = [];
    const { promise: held, resolve: release } = Promise.withResolvers<void>();
    const read = withReading(catalog, reading, async () => {
      await held;
      order.push('read');
      throw new Error('broken');
    }).catch((error: unknown) => order.push(String(error)));
    while ((await listReaders(catalog, 'full')).length === 0) await new Promise(setImmediate);
    const taken = waitForReaders(catalog, 'full', { ...wait, limit: 60_000 }).then(() => order.push('taken'));
    await waitForReaders(catalog, 'unknown', wait);
    release();
    await Promise.all([read, taken]);
    expect(order).toEqual(['read', 'Error: broken', 'taken']);
    expect(await listReaders(catalog, 'full')).toEqual([]);
  });

  it('is named when it takes too long, and the wait can be cancelled', async () => {
    const { catalog, reading, wait } = await openSite();
    await withReading(catalog, reading, async () => {
      await expect(waitForReaders(catalog, 'full', wait)).rejects.toMatchObject({
        code: 'BACKUP_IN_USE',
        message: expect.stringMatching(/^job job-1 \(process \d+ on .+\) has been reading full since/),
        context: { job_id: 'job-1', pid: process.pid },
      });
      const cancel = new AbortController();
      const waiting = waitForReaders(catalog, 'full', { ...wait, limit: 60_000, signal: cancel.signal });
      cancel.abort();
      await expect(waiting).rejects.toMatchObject({ code: 'CANCELLED' });
    });
  });

  it('counts while it renews, and not when it is dead or silent', async () => {
    const { catalog, reading, wait } = await openSite();
    await withReading(catalog, { ...reading, heartbeat: 50, expiry: 200 }, async () => {
      await expect(waitForReaders(catalog, 'full', { ...wait, limit: 600 })).rejects.toMatchObject({ code: 'BACKUP_IN_USE' });
    });
    await withReading(catalog, { ...reading, expiry: 200 }, () => waitForReaders(catalog, 'full', { ...wait, limit: 60_000 }));
    const dead = { ...reading.owner, pid: 2 ** 22 + 1 };
    await withReading(catalog, { ...reading, owner: dead }, () => waitForReaders(catalog, 'full', wait));
  });
});
