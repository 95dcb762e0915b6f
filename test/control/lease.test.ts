// One writer per disk, between real processes: held, refused, taken over from the dead at once, from the silent after expiry.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { listLeases } from '../../src/catalog/leases.ts';
import type { Owner } from '../../src/catalog/owner-fields.ts';
import { sql } from '../../src/catalog/sql.ts';
import { type LeaseWanted, withLease } from '../../src/control/lease.ts';
import { currentOwner } from '../../src/control/owner.ts';
import { ChainkeepError } from '../../src/plumbing/errors.ts';
import type { Logger } from '../../src/plumbing/logger.ts';
import { addRepository, addVm, type DatabasePlace, openScratch, setClock } from '../catalog/scratch-catalog.ts';

const HOLDER = fileURLToPath(new URL('./hold-lease-process.ts', import.meta.url));

interface Site {
  readonly catalog: Catalog;
  readonly place: DatabasePlace;
  readonly wanted: LeaseWanted;
  readonly lines: string[];
}

async function openSite(clock?: ReturnType<typeof setClock>): Promise<Site> {
  const { catalog, place } = await openScratch(clock);
  await addRepository(catalog);
  await addVm(catalog);
  const lines: string[] = [];
  const logger: Logger = { log: (level, message) => lines.push(`${level} ${message}`) };
  const owner = await currentOwner(catalog);
  return { catalog, place, lines, wanted: { repositoryId: 'repo-1', vmContextId: 'vm-1', diskId: 0, jobId: 'job-1', owner, logger } };
}

/** Another process that holds the lease. */
async function startHolder(place: DatabasePlace, heartbeat: number, expiry: number) {
  const child: ChildProcess = spawn(process.execPath, [HOLDER, place.url, String(heartbeat), String(expiry)], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, PASSWORD: place.password },
  });
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  if (!child.stdout) throw new Error('no pipe');
  const output = createInterface({ input: child.stdout });
  await once(output, 'line');
  return {
    child,
    look: async (): Promise<string> => {
      const answer = once(output, 'line');
      child.stdin?.write('look\n');
      return String((await answer)[0]);
    },
  };
}

const taken = async () => 'taken';

describe('a lease', () => {
  it('is there during the work and gone after it, whether it ended well or not', async () => {
    const { catalog, wanted } = await openSite();
    const during = await withLease(catalog, wanted, async (guard) => {
      await guard.assertHeld();
      return listLeases(catalog);
    });
    expect(during).toMatchObject([{ repository_id: 'repo-1', vm_context_id: 'vm-1', disk_id: 0, job_id: 'job-1', owner: wanted.owner }]);
    expect(Date.parse(during[0]?.expires_at ?? '') - Date.parse(during[0]?.acquired_at ?? '')).toBe(60_000);
    await expect(
      withLease(catalog, wanted, async () => {
        throw new RangeError('work failed');
      }),
    ).rejects.toThrow('work failed');
    expect(await listLeases(catalog)).toEqual([]);
  });

  it('refuses a second writer of the same disk and names the first; other disks are free', async () => {
    const { catalog, wanted } = await openSite();
    await withLease(catalog, wanted, async () => {
      await expect(withLease(catalog, { ...wanted, jobId: 'job-2' }, taken)).rejects.toMatchObject({
        code: 'BACKUP_IN_PROGRESS',
        context: { machine: wanted.owner.hostname, pid: process.pid, job_id: 'job-1', since: expect.stringMatching(/Z$/) },
      });
      expect(await withLease(catalog, { ...wanted, diskId: 1 }, taken)).toBe('taken');
    });
    expect(await withLease(catalog, wanted, taken)).toBe('taken');
  });

  it('goes to exactly one of many who want it at once', async () => {
    const { catalog, wanted } = await openSite();
    const results = await Promise.allSettled(
      Array.from({ length: 10 }, (_, index) => withLease(catalog, { ...wanted, jobId: `job-${index}` }, () => wait(50))),
    );
    expect(results.filter((result) => result.status === 'fulfilled')).toHaveLength(1);
  });
});

describe('another process', () => {
  it('keeps it as long as it renews, well beyond the expiry', async () => {
    const { catalog, place, wanted } = await openSite();
    const holder = await startHolder(place, 100, 1500);
    await wait(2000);
    const [lease] = await listLeases(catalog);
    await expect(withLease(catalog, wanted, taken)).rejects.toMatchObject({
      code: 'BACKUP_IN_PROGRESS',
      context: { pid: holder.child.pid, job_id: 'job-of-child', since: lease?.acquired_at },
    });
    expect(await holder.look()).toBe('held false');
    await once(holder.child, 'close');
    expect(await withLease(catalog, wanted, taken)).toBe('taken');
  });

  it('killed: its lease is taken over at once, and that is said', async () => {
    const { catalog, place, wanted, lines } = await openSite();
    const holder = await startHolder(place, 10_000, 60_000);
    holder.child.kill('SIGKILL');
    await once(holder.child, 'close');
    expect(await withLease(catalog, wanted, taken)).toBe('taken');
    expect(lines).toEqual([expect.stringContaining(`warn took over the lease of job job-of-child (process ${holder.child.pid} on`)]);
  });

  it('stopped: its lease stands until the expiry, then another takes it, and the stopped one notices when it goes on', async () => {
    const { catalog, place, wanted } = await openSite();
    const holder = await startHolder(place, 100, 1200);
    holder.child.kill('SIGSTOP');
    await expect(withLease(catalog, wanted, taken)).rejects.toMatchObject({ code: 'BACKUP_IN_PROGRESS' });
    await wait(1400);
    const answer = await withLease(catalog, wanted, async () => {
      holder.child.kill('SIGCONT');
      return holder.look();
    });
    expect(answer).toBe('LEASE_LOST LEASE_LOST');
  });

  it('stopped, and nobody took it, or somebody took it and is done: lost all the same', async () => {
    for (const visitor of [false, true]) {
      const { catalog, place, wanted } = await openSite();
      const holder = await startHolder(place, 100, 800);
      holder.child.kill('SIGSTOP');
      await wait(1000);
      if (visitor) expect(await withLease(catalog, wanted, taken)).toBe('taken');
      holder.child.kill('SIGCONT');
      expect(await holder.look()).toBe('LEASE_LOST LEASE_LOST');
    }
  });
});

describe('an owner nobody can judge', () => {
  it('keeps its lease until the expiry, to the millisecond', async () => {
    const clock = setClock();
    const { catalog, wanted } = await openSite(clock);
    const elsewhere: Owner = { ...wanted.owner, machine_id: 'other', hostname: 'other-host', pid: 2 ** 22 };
    // It took the lease and was never heard of again.
    await withLease(catalog, { ...wanted, owner: elsewhere, jobId: 'job-far' }, async () => {
      clock.advance(59_999);
      await expect(withLease(catalog, wanted, taken)).rejects.toMatchObject({ context: { machine: 'other-host' } });
      clock.advance(1);
      expect(await withLease(catalog, wanted, taken)).toBe('taken');
    });
  });
});

describe('a guard', () => {
  it('fires when the lease is gone at a renewal', async () => {
    const { catalog, wanted } = await openSite();
    await withLease(catalog, { ...wanted, heartbeat: 20 }, async (guard) => {
      await guard.assertHeld();
      expect(guard.signal.aborted).toBe(false);
      await catalog.run(sql`delete from leases`);
      await expect(guard.assertHeld()).rejects.toMatchObject({ code: 'LEASE_LOST', context: { job_id: 'job-1' } });
      await once(guard.signal, 'abort');
      expect(guard.signal.reason).toMatchObject({ code: 'LEASE_LOST' });
    });
  });

  it('names the lost lease when files vanish under the work, and only then', async () => {
    const { catalog, wanted } = await openSite();
    const failure = new ChainkeepError('STORE_FAILED', 'no such file', {});
    const failing = withLease(catalog, wanted, () => Promise.reject(failure));
    await expect(failing).rejects.toBe(failure);
    const losing = withLease(catalog, wanted, async () => {
      await catalog.run(sql`delete from leases`);
      throw failure;
    });
    await expect(losing).rejects.toMatchObject({ code: 'LEASE_LOST', cause: failure });
  });

  it('fires when the database could not be written to until the expiry, and not before', async () => {
    const { catalog, wanted, lines } = await openSite();
    const broken: Catalog = {
      dialect: catalog.dialect,
      clock: catalog.clock,
      all: (statement) => catalog.all(statement),
      run: (statement) => catalog.run(statement),
      transaction: (work) => (taking ? catalog.transaction(work) : Promise.reject(new Error('disk full'))),
      close: () => catalog.close(),
    };
    let taking = true;
    await withLease(broken, { ...wanted, heartbeat: 50, expiry: 400 }, async (guard) => {
      taking = false;
      const began = Date.now();
      await once(guard.signal, 'abort');
      expect(Date.now() - began).toBeGreaterThan(300);
      await expect(guard.assertHeld()).rejects.toMatchObject({ code: 'LEASE_LOST' });
    });
    expect(lines.length).toBeGreaterThan(2);
    expect(new Set(lines)).toEqual(new Set(['warn the lease could not be renewed, trying again']));
  });
});
