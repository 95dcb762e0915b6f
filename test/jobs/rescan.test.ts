// A rescan beyond the table of outcomes: chains that lost a parent, holds and locks, names of VMs, copies, and others at work.

import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { findBackupCopy } from '../../src/catalog/backup-copies.ts';
import { isPlaceholder, MISSING } from '../../src/catalog/backup-marks.ts';
import { listHolds } from '../../src/catalog/holds.ts';
import { sql } from '../../src/catalog/sql.ts';
import { findVmContextById, updateVmContext } from '../../src/catalog/vm-contexts.ts';
import { isoTime, newId, systemClock } from '../../src/plumbing/clock.ts';
import { newBackup, openRescanSite } from './rescan-site.ts';
import { endTrackedJob, insertTrackedJob } from './tracked-job.ts';

const NOTHING = { added: 0, changed: 0, damaged: 0, missing: 0, in_progress: 0 };

describe('a chain', () => {
  it('comes back with its totals, several of a disk, differentials and several disks', async () => {
    const site = await openRescanSite();
    const full = newBackup();
    const first = newBackup(full);
    const differential = newBackup(full, { backup_type: 'differential' });
    const second = newBackup(null, { vm_context_id: full.vm_context_id, vm_name: 'made up' });
    const other = newBackup(null, { vm_context_id: full.vm_context_id, disk_id: 3 });
    for (const backup of [full, first, differential, second, other]) await site.put(backup);
    expect(await site.rescan()).toMatchObject({ ...NOTHING, found: 5, added: 5 });
    const chains = await site.app.listChains({ vm: full.vm_context_id });
    expect(chains.map((chain) => [chain.disk_id, chain.backups.map(({ backup_id }) => backup_id)])).toEqual([
      [0, [second.backup_id]],
      [0, [full.backup_id, first.backup_id, differential.backup_id]],
      [3, [other.backup_id]],
    ]);
    expect(chains[1]).toMatchObject({ total_backups: 3, total_size_bytes: 3000, latest_backup_id: differential.backup_id });
    expect(await site.rescan()).toMatchObject({ ...NOTHING, found: 5 });
  });

  it('whose parent is gone keeps its place free for it, and takes it back', async () => {
    const site = await openRescanSite();
    const full = newBackup();
    const [child, grandchild] = [newBackup(full), newBackup(full)];
    await site.put(child);
    await site.put(grandchild);
    const alone = await site.rescan();
    expect(alone).toMatchObject({
      found: 2,
      added: 2,
      damaged: 2,
      damaged_backups: [{ code: 'PARENT_NOT_FOUND' }, { code: 'PARENT_NOT_FOUND' }],
    });
    const place = await site.row(full.backup_id);
    expect(place).toMatchObject({ status: 'failed', backup_type: 'full', error_message: expect.stringContaining(child.backup_id) });
    expect(place && isPlaceholder(place)).toBe(true);
    expect(await site.row(child.backup_id)).toMatchObject({
      status: 'completed',
      parent_backup_id: full.backup_id,
      verification_status: 'failed',
    });
    expect(await site.app.listChains({ vm: full.vm_context_id })).toEqual([]);
    expect(await site.rescan()).toMatchObject({ ...NOTHING, damaged: 2 });
    await site.put(full);
    expect(await site.rescan()).toMatchObject({ ...NOTHING, found: 3, added: 1 });
    expect(await site.row(child.backup_id)).toMatchObject({ error_message: null, verification_status: 'never' });
    expect(await site.app.listChains({ vm: full.vm_context_id })).toMatchObject([{ total_backups: 3 }]);
  });

  it('that forms a loop is entered and named, and nothing hangs', async () => {
    const site = await openRescanSite();
    const one = newBackup();
    const two = newBackup(one);
    const forged = { ...one, backup_type: 'incremental', parent_backup_id: two.backup_id, parent_content_root: two.content_root } as const;
    await site.put(forged);
    await site.put(two);
    expect(await site.rescan()).toMatchObject({ found: 2, added: 2, damaged: 2 });
    expect(await site.rescan()).toMatchObject({ ...NOTHING, damaged: 2 });
  });
});

describe('what is missing', () => {
  it('keeps its row, is listed as missing, named by verify, and is good again when it is back', async () => {
    const site = await openRescanSite();
    const backup = newBackup();
    await site.put(backup);
    await site.rescan();
    const folder = `${site.folder}/vms/${backup.vm_context_id}`;
    renameSync(folder, `${site.folder}/aside`);
    expect(await site.rescan()).toMatchObject({ ...NOTHING, found: 0, missing: 1, missing_backups: [backup.backup_id] });
    expect(await site.row(backup.backup_id)).toMatchObject({ status: 'completed', error_message: MISSING });
    expect(await site.app.listBackups({})).toMatchObject([{ backup_id: backup.backup_id, status: 'completed', problem: 'missing' }]);
    const verified = await site.app.verify({ repository: 'r', quick: true }, {});
    expect(verified.damaged).toMatchObject([{ backup_id: backup.backup_id, code: 'BACKUP_NOT_FOUND' }]);
    renameSync(`${site.folder}/aside`, folder);
    expect(await site.rescan()).toMatchObject({ ...NOTHING, found: 1 });
    expect(await site.row(backup.backup_id)).toMatchObject({ error_message: null, verification_status: 'never', verified_at: null });
    expect((await site.app.listBackups({}))[0]).not.toHaveProperty('problem');
  });

  it('is not a backup that is being deleted', async () => {
    const site = await openRescanSite();
    const backup = newBackup();
    await site.put(backup);
    await site.rescan();
    const metadata = { backup_id: backup.backup_id, delete_begun: true };
    const job = await insertTrackedJob(site.catalog, { job_type: 'delete', operation: 'made up', metadata });
    rmSync(site.path(backup, 'json'));
    expect(await site.rescan()).toMatchObject({ ...NOTHING, in_progress: 1 });
    expect(await site.row(backup.backup_id)).toMatchObject({ status: 'completed', error_message: null });
    await endTrackedJob(site.catalog, job);
    expect(await site.rescan()).toMatchObject({ ...NOTHING, missing: 1 });
  });
});

it('another content than the one that was taken is damage, and the catalog goes on knowing the first', async () => {
  const site = await openRescanSite();
  const backup = newBackup();
  await site.put(backup);
  await site.rescan();
  await site.put({ ...backup, content_root: 'f'.repeat(64), vm_name: 'older' });
  expect(await site.rescan()).toMatchObject({ ...NOTHING, damaged: 1, damaged_backups: [{ code: 'CHAIN_CORRUPT' }] });
  expect(await site.row(backup.backup_id)).toMatchObject({
    content_root: backup.content_root,
    vm_name: 'made up',
    verification_status: 'failed',
  });
});

describe('the name of a VM', () => {
  it('is that of its newest backup, whatever the order of its disks', async () => {
    const site = await openRescanSite();
    const old = newBackup(null, { vm_name: 'before' });
    const renamed = newBackup(null, { vm_context_id: old.vm_context_id, disk_id: 1, vm_name: 'after', external_id: 'i-7' });
    const another = newBackup(null, { vm_name: 'x' });
    const later = newBackup(null, { vm_context_id: another.vm_context_id, disk_id: 0, vm_name: 'y' });
    const odd = newBackup({ ...another, disk_id: 1 }, { disk_id: 1, vm_name: 'x' });
    for (const backup of [old, renamed, another, later, odd]) await site.put(backup);
    await site.rescan();
    expect(await findVmContextById(site.catalog, old.vm_context_id)).toMatchObject({ vm_name: 'after', external_id: 'i-7' });
    expect(await findVmContextById(site.catalog, another.vm_context_id)).toMatchObject({ vm_name: 'x' });
  });

  it('that was given in the catalog stays', async () => {
    const site = await openRescanSite();
    const backup = newBackup(null, { vm_name: 'before' });
    await site.put(backup);
    await site.rescan();
    await updateVmContext(site.catalog, backup.vm_context_id, { vm_name: 'given' });
    await site.put(newBackup(backup, { vm_name: 'before' }));
    expect(await site.rescan()).toMatchObject({ added: 1 });
    expect(await findVmContextById(site.catalog, backup.vm_context_id)).toMatchObject({ vm_name: 'given' });
  });
});

describe('locks and holds', () => {
  const hold = (id: string, backupId: string) => ({
    format: 1,
    hold_id: id,
    backup_id: backupId,
    reason: 'court',
    by: 'ann',
    at: '2026-11-22T13:00:00.000Z',
  });

  it('come back: the latest date, holds and lifted ones', async () => {
    const site = await openRescanSite();
    const backup = newBackup();
    await site.put(backup);
    for (const until of ['20270122t144539287', '20280101t000000000', '20270901t000000000'])
      writeFileSync(site.path(backup, `lock.${until}`), '');
    await site.seal(backup, 'hold.1.json', hold('hold-a', backup.backup_id));
    await site.seal(backup, 'hold.2.json', hold('hold-b', backup.backup_id));
    await site.seal(backup, 'hold.2.lifted.json', { ...hold('hold-b', backup.backup_id), by: 'bob', at: '2026-11-23T13:00:00.000Z' });
    expect(await site.rescan()).toMatchObject({ ...NOTHING, added: 1 });
    expect(await site.row(backup.backup_id)).toMatchObject({ protected_until: '2028-01-01T00:00:00.000Z', error_message: null });
    const made = { backup_id: backup.backup_id, reason: 'court', created_by: 'ann', created_at: '2026-11-22T13:00:00.000Z' };
    expect(await listHolds(site.catalog, [backup.backup_id])).toEqual([
      { ...made, id: 'hold-a', lifted_by: null, lifted_at: null },
      { ...made, id: 'hold-b', lifted_by: 'bob', lifted_at: '2026-11-23T13:00:00.000Z' },
    ]);
    expect(await site.rescan()).toMatchObject(NOTHING);
  });

  it('that cannot be read hold, and are named until they can', async () => {
    const site = await openRescanSite();
    const backup = newBackup();
    await site.put(backup);
    await site.seal(backup, 'hold.1.json', hold('hold-a', 'another-backup'));
    await site.seal(backup, 'hold.2.json', hold('hold-b', backup.backup_id));
    writeFileSync(site.path(backup, 'hold.2.lifted.json'), '{}');
    writeFileSync(site.path(backup, 'lock.soon'), '');
    const outcome = await site.rescan();
    expect(outcome).toMatchObject({ added: 1, damaged: 1 });
    expect(outcome.damaged_backups.map(({ code }) => code)).toEqual(Array(3).fill('PROTECTION_INVALID'));
    expect(
      (await listHolds(site.catalog, [backup.backup_id])).map(({ id, lifted_at }) => [id.replace(/-[0-9a-f]{32}$/, ''), lifted_at]),
    ).toEqual(
      expect.arrayContaining([
        ['damaged-hold', null],
        ['hold-b', null],
      ]),
    );
    expect(await site.rescan()).toMatchObject({ ...NOTHING, damaged: 1 });
    await site.seal(backup, 'hold.1.json', hold('hold-a', backup.backup_id));
    rmSync(site.path(backup, 'hold.2.lifted.json'));
    rmSync(site.path(backup, 'lock.soon'));
    expect(await site.rescan()).toMatchObject({ ...NOTHING, changed: 1 });
    expect((await listHolds(site.catalog, [backup.backup_id])).map(({ id }) => id).toSorted()).toEqual(['hold-a', 'hold-b']);
  });

  it('that the catalog has and the repository has lost still count, and are named', async () => {
    const site = await openRescanSite();
    const backup = newBackup();
    await site.put(backup);
    await site.seal(backup, 'hold.1.json', hold('hold-a', backup.backup_id));
    writeFileSync(site.path(backup, 'lock.20280101t000000000'), '');
    await site.rescan();
    rmSync(site.path(backup, 'hold.1.json'));
    rmSync(site.path(backup, 'lock.20280101t000000000'));
    expect(await site.rescan()).toMatchObject({ ...NOTHING, damaged: 1 });
    expect(await site.row(backup.backup_id)).toMatchObject({ protected_until: '2028-01-01T00:00:00.000Z' });
    expect(await listHolds(site.catalog, [backup.backup_id])).toMatchObject([{ id: 'hold-a', lifted_at: null }]);
  });

  it('of a backup that is gone keep a place for it', async () => {
    const site = await openRescanSite();
    const backup = newBackup();
    await site.seal(backup, 'hold.1.json', hold('hold-a', backup.backup_id));
    const named = { damaged: 1, damaged_backups: [{ backup_id: backup.backup_id, code: 'BACKUP_NOT_FOUND' }] };
    expect(await site.rescan()).toMatchObject({ ...NOTHING, ...named, changed: 1 });
    expect(await site.rescan()).toMatchObject({ ...NOTHING, ...named });
    expect(await listHolds(site.catalog, [backup.backup_id])).toMatchObject([{ id: 'hold-a' }]);
    await site.put(backup);
    expect(await site.rescan()).toMatchObject({ ...NOTHING, added: 1 });
  });
});

it('a backup whose row belongs to another repository is a copy', async () => {
  const site = await openRescanSite();
  const backup = newBackup();
  const other = newId(systemClock);
  await site.catalog.run(
    sql`insert into backup_repositories (id, name, repository_type, config, created_at)
      select ${other}, 'other', repository_type, '{"path": "/nowhere"}', created_at from backup_repositories where id = ${site.repositoryId}`,
  );
  await site.enter(backup, { status: 'completed', repository_id: other });
  await site.put({ ...backup, origin_repository_id: other });
  expect(await site.rescan()).toMatchObject({ ...NOTHING, found: 1, added: 1 });
  expect(await findBackupCopy(site.catalog, backup.backup_id, site.repositoryId)).toMatchObject({ status: 'completed', size_bytes: 1000 });
  expect(await site.row(backup.backup_id)).toMatchObject({ repository_id: other });
  expect(await site.rescan()).toMatchObject({ ...NOTHING, found: 1 });
});

it('files that are none of ours are counted, and a sidecar that the catalog cannot hold is damaged', async () => {
  const site = await openRescanSite();
  const backup = newBackup(null, { vm_name: 'x'.repeat(300) });
  await site.put(backup);
  writeFileSync(`${site.folder}/holiday.jpg`, '');
  expect(await site.rescan()).toMatchObject({
    ...{ found: 0, damaged: 1, other_files: 1, other_names: ['holiday.jpg'] },
    damaged_backups: [{ code: 'SIDECAR_INVALID' }],
  });
  expect(await site.row(backup.backup_id)).toMatchObject({ status: 'failed' });
});

it('cancelled in the middle, the next one does the rest', async () => {
  const site = await openRescanSite();
  for (let count = 0; count < 450; count++) await site.put(newBackup());
  const stop = new AbortController();
  const onProgress = ({ done, total }: { readonly done: number; readonly total: number }): void =>
    done > total / 2 ? stop.abort() : undefined;
  await expect(site.app.rescanRepository('r', { signal: stop.signal, onProgress })).rejects.toMatchObject({ code: 'CANCELLED' });
  const settled = (await site.app.listBackups({})).length;
  expect(settled).toBeGreaterThan(0);
  expect(settled).toBeLessThan(450);
  expect(await site.rescan()).toMatchObject({ ...NOTHING, found: 450, added: 450 - settled });
  const at = isoTime(systemClock.now());
  expect((await site.app.listBackups({})).every(({ status, created_at }) => status === 'completed' && created_at < at)).toBe(true);
});
