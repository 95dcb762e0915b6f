// Each line of the table of outcomes of copies in the guide, made and judged; and what verify says of copies that are not there.

import { rmSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type BackupCopy, findBackupCopy, insertBackupCopy } from '../../src/catalog/backup-copies.ts';
import { MISSING } from '../../src/catalog/backup-marks.ts';
import { sql } from '../../src/catalog/sql.ts';
import { newId, systemClock } from '../../src/plumbing/clock.ts';
import { diskFolder, imageFile } from '../../src/repository/layout.ts';
import type { Sidecar } from '../../src/repository/sidecar-fields.ts';
import { countsOf, each, expectedCounts, oneOf, readOutcomes } from './outcome-table.ts';
import { newBackup, openRescanSite, type RescanSite } from './rescan-site.ts';

const HEAD = '| sidecar | image and digests | row of the copy before | counted as | row of the copy after |';
const STATES = ['pending', 'copying', 'verifying', 'completed', 'failed', 'cancelled'] as const;

const CASES = readOutcomes(HEAD).flatMap(([sidecar = '', files = '', row = '', counted = '', after = '']) =>
  each(files).flatMap((file) => each(row).map((state) => ({ sidecar, files: file, row: state, counted, after }))),
);

/** A repository to which the rows of the backups belong. */
async function addOther({ catalog, repositoryId }: RescanSite): Promise<string> {
  const other = newId(systemClock);
  await catalog.run(
    sql`insert into backup_repositories (id, name, repository_type, config, created_at)
      select ${other}, 'other', repository_type, '{"path": "/nowhere"}', created_at from backup_repositories where id = ${repositoryId}`,
  );
  return other;
}

async function enterCopy({ catalog, repositoryId }: RescanSite, sidecar: Sidecar, status: BackupCopy['status']): Promise<void> {
  const { backup_id, vm_context_id: vmContextId, disk_id: diskId, size_bytes, created_at } = sidecar;
  const file_path = diskFolder({ vmContextId, diskId }) + imageFile(backup_id);
  const ids = { id: newId(systemClock), source_backup_id: backup_id, repository_id: repositoryId };
  await insertBackupCopy(catalog, { ...ids, status, file_path, size_bytes, bytes_copied: size_bytes, created_at });
}

const copyOf = ({ catalog, repositoryId }: RescanSite, { backup_id }: Sidecar): Promise<BackupCopy | undefined> =>
  findBackupCopy(catalog, backup_id, repositoryId);

describe('the table of outcomes of copies', () => {
  it('leaves no case out, and has none twice', () => {
    const all = ['valid', 'damaged', 'absent'].flatMap((sidecar) =>
      ['there', 'missing'].flatMap((files) => ['absent', ...STATES].map((row) => [sidecar, files, row].join(' '))),
    );
    expect(CASES.map(({ sidecar, files, row }) => [sidecar, files, row].join(' ')).toSorted()).toEqual(all.toSorted());
  });

  it('is what a rescan does, and a second one finds nothing more to do', async () => {
    const site = await openRescanSite();
    const other = await addOther(site);
    const made: { readonly line: (typeof CASES)[number]; readonly backup: Sidecar; readonly before: BackupCopy | undefined }[] = [];
    for (const line of CASES) {
      const backup = newBackup();
      await site.enter(backup, { status: 'completed', repository_id: other });
      const sidecar = oneOf<'valid' | 'damaged' | 'absent'>(line.sidecar, ['valid', 'damaged', 'absent']);
      await site.put(backup, { sidecar, image: line.files === 'there' });
      if (line.row !== 'absent') await enterCopy(site, backup, oneOf(line.row, STATES));
      made.push({ line, backup, before: await copyOf(site, backup) });
    }
    expect(countsOf(await site.rescan())).toEqual(expectedCounts(made));
    const after = new Map<Sidecar, BackupCopy | undefined>();
    for (const { line, backup, before } of made) {
      after.set(backup, await copyOf(site, backup));
      expect(stateOf(after.get(backup), before), JSON.stringify(line)).toEqual(line.after);
      expect(await site.row(backup.backup_id)).toMatchObject({ repository_id: other, status: 'completed', error_message: null });
    }
    expect(countsOf(await site.rescan())).toEqual(expectedCounts(made, ['added', 'changed']));
    for (const [backup, copy] of after) expect(await copyOf(site, backup)).toEqual(copy);
  });
});

function stateOf(after: BackupCopy | undefined, before: BackupCopy | undefined): string {
  if (!after) return 'absent';
  if (JSON.stringify(after) === JSON.stringify(before)) return 'as before';
  if (after.status !== 'completed') return after.status;
  if (after.error_message === null) return 'completed';
  expect(after.verification_status).toBe('failed');
  return after.error_message === MISSING ? 'completed, marked missing' : 'completed, marked damaged';
}

describe('a copy that is not there', () => {
  it('is named by a rescan and by verify of its repository, until it is back', async () => {
    const site = await openRescanSite();
    const other = await addOther(site);
    const lost = newBackup();
    const partly = newBackup();
    const stays = newBackup(partly);
    for (const backup of [lost, partly, stays]) {
      await site.enter(backup, { status: 'completed', repository_id: other });
      await enterCopy(site, backup, 'completed');
    }
    for (const backup of [partly, stays]) await site.put(backup);
    rmSync(site.path(stays, 'json'));
    const missing = [lost.backup_id, stays.backup_id].toSorted();
    const rescanned = await site.rescan();
    expect({ ...rescanned, missing_backups: rescanned.missing_backups.toSorted() }).toMatchObject({
      missing: 2,
      missing_backups: missing,
    });
    const verified = await site.app.verify({ repository: 'r', quick: true }, {});
    expect(missingOf(verified)).toEqual(missing);
    expect(await copyOf(site, lost)).toMatchObject({ error_message: MISSING, verification_status: 'failed', status: 'completed' });
    for (const backup of [lost, stays]) await site.put(backup);
    expect(await site.rescan()).toMatchObject({ found: 3, missing: 0, damaged: 0 });
    expect(await copyOf(site, lost)).toMatchObject({ error_message: null, verification_status: 'pending', verified_at: null });
    expect(missingOf(await site.app.verify({ repository: 'r', quick: true }, {}))).toEqual([]);
  });
});

function missingOf({ damaged }: { readonly damaged: readonly { readonly backup_id: string; readonly code: string }[] }): readonly string[] {
  return damaged.flatMap(({ code, backup_id }) => (code === 'BACKUP_NOT_FOUND' ? [backup_id] : [])).toSorted();
}

describe('a copy that is good and of another content than its backup', () => {
  it('is entered as damaged, and named', async () => {
    const site = await openRescanSite();
    const other = await addOther(site);
    const backup = newBackup();
    await site.enter(backup, { status: 'completed', repository_id: other, content_root: 'f'.repeat(64) });
    await site.put(backup);
    const { damaged_backups } = await site.rescan();
    expect(damaged_backups).toMatchObject([{ backup_id: backup.backup_id, code: 'CHAIN_CORRUPT' }]);
    expect(await copyOf(site, backup)).toMatchObject({
      verification_status: 'failed',
      error_message: expect.stringContaining('another content'),
    });
  });
});
