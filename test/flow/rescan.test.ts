// A database that is lost, and everything that a rescan brings back, field by field; beside running backups, killed, and of a repository of others.

import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { expect, it } from 'vitest';
import type { RescanOutcome } from '../../src/app-interface.ts';
import { loadBlake3 } from '../../src/plumbing/blake3.ts';
import { newId, systemClock } from '../../src/plumbing/clock.ts';
import { diskFolder } from '../../src/repository/layout.ts';
import { encodeSealed } from '../../src/repository/sealed-json.ts';
import { encodeSidecar } from '../../src/repository/sidecar.ts';
import { sidecarOf } from '../repository/made-up-sidecar.ts';
import { heldDisk } from './held-disk.ts';
import { noise, refusal, type ScratchHome, scratchHome } from './scratch-home.ts';

const TABLES = { backup_jobs: 'id', backup_chains: 'id', vm_replication_contexts: 'context_id', holds: 'id' } as const;
const MIB = 1 << 20;

function dump(user: ScratchHome): Readonly<Record<string, readonly object[]>> {
  const database = new Database(user.path('home/catalog.sqlite'), { readonly: true });
  try {
    const rows = Object.entries(TABLES).map(([table, key]) => [table, database.prepare(`select * from ${table} order by ${key}`).all()]);
    return Object.fromEntries(rows);
  } finally {
    database.close();
  }
}

const rescan = (user: ScratchHome): Promise<RescanOutcome> => user.json('repo', 'rescan', 'r');

async function makeRepository(user: ScratchHome): Promise<void> {
  await user.json('repo', 'add', 'r', '--path', user.path('repository'));
}

it('with the database deleted, everything comes back but what only the database knew', async () => {
  const user = scratchHome();
  await makeRepository(user);
  const disk = user.path('disk.img');
  writeFileSync(disk, noise(MIB, 1));
  const { backup_id: held, vm_context_id: vm } = await user.backup(disk, 'web', '--change-id', 'change-1');
  await user.backup(disk, 'web');
  writeFileSync(disk, noise(100_000, 2), { flag: 'r+' });
  await user.backup(disk, 'web', '--type', 'differential', '--compression', 'none');
  await user.json('backup', '--vm', 'db', '--disk', `0=${disk}`, '--disk', `4=${disk}`);
  const { backup_id: deleted } = await user.backup(disk, 'db', '--disk', '4');
  await user.json('delete', deleted);
  await user.backup(disk, 'web', '--type', 'full');
  const place = join(user.path('repository'), diskFolder({ vmContextId: vm, diskId: 0 }));
  const hold = { format: 1, hold_id: newId(systemClock), backup_id: held, reason: 'audit', by: 'ann', at: '2026-11-22T13:00:00.000Z' };
  writeFileSync(join(place, `${held}.hold.1.json`), encodeSealed(await loadBlake3(), hold));
  writeFileSync(join(place, `${held}.lock.20300101t000000000`), '');
  expect(await rescan(user)).toMatchObject({ found: 6, added: 0, changed: 1 });
  const before = dump(user);
  expect(before.holds).toHaveLength(1);
  await user.verifyAll('r');

  rmSync(user.path('home'), { recursive: true });
  await user.json('repo', 'add', 'r', '--path', user.path('repository'), '--take-over');
  const files = user.files('repository');
  const outcome = await rescan(user);
  expect(outcome).toMatchObject({ found: 6, added: 6, changed: 0, damaged: 0, foreign: 0, missing: 0 });
  expect(outcome.not_rebuilt).toContain('policies');
  expect(user.files('repository')).toEqual(files);
  // A verify of before is lost; nothing else, and the chain whose newest backup was deleted was written then.
  const after = dump(user);
  for (const table of ['backup_jobs', 'vm_replication_contexts', 'holds']) expect(after[table], table).toEqual(before[table]);
  const settled = (rows: readonly object[] = []) => rows.map((row) => ({ ...row, updated_at: 'when it was last written' }));
  expect(settled(after.backup_chains)).toEqual(settled(before.backup_chains));
  expect(await rescan(user)).toMatchObject({ added: 0, changed: 0 });
  expect(dump(user)).toEqual(after);
  expect(await user.backup(disk, 'web')).toMatchObject({ backup_type: 'incremental' });
  await user.verifyAll('r');
});

it('what was deleted behind its back is named by the rescan, the listing and verify, and says so to people too', async () => {
  const user = scratchHome();
  await makeRepository(user);
  const disk = user.path('disk.img');
  writeFileSync(disk, noise(MIB, 1));
  await user.backup(disk, 'web');
  const { backup_id: lost } = await user.backup(disk, 'web');
  const sidecar = user.image(lost).replace(/qcow2$/, 'json');
  renameSync(sidecar, user.path('aside'));
  expect(await rescan(user)).toMatchObject({ found: 1, missing: 1, missing_backups: [lost] });
  expect((await user.run('list')).stdout).toMatch(new RegExp(`${lost}.*completed, missing`));
  const verify = await user.run('verify', '--repo', 'r', '--quick');
  expect(verify.code).toBe(1);
  expect(verify.stdout).toContain(`${lost}: BACKUP_NOT_FOUND`);
  const words = await user.run('repo', 'rescan', 'r');
  expect(words.code).toBe(0);
  expect(words.stdout).toMatch(new RegExp(`missing +1 \\(${lost}\\)`));
  renameSync(user.path('aside'), sidecar);
  expect(await rescan(user)).toMatchObject({ found: 2, missing: 0 });
  expect((await user.run('list')).stdout).not.toContain('missing');
});

it('a backup that runs is left alone, and ends well', async () => {
  const user = scratchHome();
  await makeRepository(user);
  const disk = user.path('disk.img');
  writeFileSync(disk, noise(16 * MIB, 1));
  await user.backup(disk, 'web');
  const { address, letGo } = await heldDisk(user, noise(16 * MIB, 2));
  const run = user.start('backup', address, '--vm', 'web', '--type', 'full', '--json');
  await user.appears('**/*.qcow2.tmp-*');
  const before = dump(user);
  expect(await rescan(user)).toMatchObject({ found: 1, added: 0, changed: 0, missing: 0, in_progress: 1 });
  expect(dump(user)).toEqual(before);
  letGo();
  expect((await run.ended).code).toBe(0);
  expect(await rescan(user)).toMatchObject({ found: 2, added: 0, changed: 0, in_progress: 0 });
  await user.verifyAll('r');
});

it('the repository of another installation is read, counted as foreign, and not written to', async () => {
  const user = scratchHome();
  await makeRepository(user);
  const disk = user.path('disk.img');
  writeFileSync(disk, noise(MIB, 1));
  await user.backup(disk, 'web');
  const owner = user.otherHome('owner');
  await owner.json('repo', 'add', 'taken', '--path', user.path('repository'), '--take-over');
  await owner.json('repo', 'rescan', 'taken');
  const { backup_id: theirs } = await owner.backup(disk, 'web', '--repo', 'taken');
  const files = user.files('repository');
  expect(await rescan(user)).toMatchObject({ read_only: true, found: 2, foreign: 2, added: 1 });
  expect(user.files('repository')).toEqual(files);
  expect((await user.list()).map(({ backup_id }) => backup_id)).toContain(theirs);
});

it('killed again and again, it ends where one that was never killed ends', { timeout: 120_000 }, async () => {
  const user = scratchHome();
  await makeRepository(user);
  const blake3 = await loadBlake3();
  for (let vm = 0; vm < 30; vm++) {
    const vm_context_id = newId(systemClock);
    const folder = join(user.path('repository'), diskFolder({ vmContextId: vm_context_id, diskId: 0 }));
    mkdirSync(folder, { recursive: true });
    let parent: ReturnType<typeof sidecarOf> | null = null;
    for (let count = 0; count < 40; count++) {
      parent = sidecarOf(newId(systemClock), parent, { vm_context_id, vm_name: `vm-${vm}`, size_bytes: 0 });
      // Each fifth chain has lost its full.
      if (vm % 5 === 0 && count === 0) continue;
      writeFileSync(join(folder, `${parent.backup_id}.json`), encodeSidecar(blake3, parent));
      writeFileSync(join(folder, `${parent.backup_id}.qcow2`), '');
      writeFileSync(join(folder, parent.digests.name), '');
    }
  }
  const entered = (): number => dump(user).backup_jobs?.length ?? 0;
  const counts: number[] = [];
  for (let kills = 0; kills < 3; kills++) {
    const before = entered();
    const run = user.start('repo', 'rescan', 'r', '--json');
    let ended = false;
    void run.ended.then(() => {
      ended = true;
    });
    while (!ended && entered() === before) await sleep(1);
    run.kill('SIGKILL');
    await run.ended;
    counts.push(entered());
  }
  expect(counts[0]).toBeGreaterThan(0);
  expect(counts[0]).toBeLessThan(30 * 40 - 6);
  const last = await rescan(user);
  expect(last.found).toBe(30 * 40 - 6);
  const killed = dump(user);
  await user.json('repo', 'remove', 'r', '--forget');
  const database = new Database(user.path('home/catalog.sqlite'));
  database.prepare('delete from vm_replication_contexts').run();
  database.close();
  await user.json('repo', 'add', 'r', '--path', user.path('repository'));
  expect(await rescan(user)).toMatchObject({ added: 30 * 40 - 6, damaged: last.damaged });
  const chains = (tables: ReturnType<typeof dump>) => tables.backup_chains?.map((row) => ({ ...row, updated_at: '' }));
  const whole = dump(user);
  expect(killed.backup_jobs).toEqual(whole.backup_jobs);
  expect(killed.vm_replication_contexts).toEqual(whole.vm_replication_contexts);
  expect(chains(killed)).toEqual(chains(whole));
});

it('a name that is none, and a repository that is not there', async () => {
  const user = scratchHome();
  await makeRepository(user);
  await user.refused('REPOSITORY_NOT_FOUND', 'repo', 'rescan', 'nothing');
  renameSync(user.path('repository'), user.path('away'));
  const refused = refusal(await user.run('repo', 'rescan', 'r', '--json'), 'REPOSITORY_OFFLINE');
  expect(refused.error).toContain(user.path('repository'));
});
