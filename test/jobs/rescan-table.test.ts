// Each line of the table of outcomes in the guide, made and judged: the table is the test's own list of cases.

import { describe, expect, it } from 'vitest';
import type { BackupJob } from '../../src/catalog/backup-jobs.ts';
import { isPlaceholder, MISSING, placeholderMessage } from '../../src/catalog/backup-marks.ts';
import { changesOf, foundRow } from '../../src/jobs/kinds/rescan-rows.ts';
import type { Sidecar } from '../../src/repository/sidecar-fields.ts';
import { countsOf, each, expectedCounts, oneOf, readOutcomes } from './outcome-table.ts';
import { newBackup, openRescanSite, type RescanSite, type Writer } from './rescan-site.ts';

interface Line {
  readonly sidecar: string;
  readonly files: string;
  readonly row: string;
  readonly writer: string;
  readonly counted: string;
  readonly after: string;
}

const HEAD = '| sidecar | image and digests | row before | who makes it | counted as | row after |';

function readTable(): readonly Line[] {
  return readOutcomes(HEAD).flatMap(([sidecar = '', files = '', row = '', writer = '', counted = '', after = '']) =>
    each(files).flatMap((file) =>
      each(row).flatMap((state) => each(writer).map((who) => ({ sidecar, files: file, row: state, writer: who, counted, after }))),
    ),
  );
}

const CASES = readTable();

describe('the table of outcomes', () => {
  it('leaves no case out, and has none twice', () => {
    const writers = (row: string) => (row === 'pending' || row === 'running' ? ['alive', 'unknown', 'silent', 'dead'] : ['']);
    const all = ['valid', 'damaged', 'absent'].flatMap((sidecar) =>
      ['there', 'missing'].flatMap((files) =>
        ['absent', 'placeholder', 'pending', 'running', 'failed', 'cancelled', 'completed'].flatMap((row) =>
          writers(row).map((writer) => [sidecar, files, row, writer].join(' ')),
        ),
      ),
    );
    expect(CASES.map(({ sidecar, files, row, writer }) => [sidecar, files, row, writer].join(' ')).toSorted()).toEqual(all.toSorted());
  });

  it('is what a rescan does, and a second one finds nothing more to do', async () => {
    const site = await openRescanSite();
    const cases: Case[] = [];
    for (const line of CASES) {
      const backup = newBackup();
      await make(site, line, backup);
      cases.push({ line, backup, before: await site.row(backup.backup_id) });
    }
    expect(countsOf(await site.rescan())).toEqual(expectedCounts(cases));
    const after = new Map<string, BackupJob | undefined>();
    for (const one of cases) after.set(one.backup.backup_id, await judge(site, one));
    expect(countsOf(await site.rescan())).toEqual(expectedCounts(cases, ['added', 'changed']));
    for (const [id, row] of after) expect(await site.row(id)).toEqual(row);
  });
});

interface Case {
  readonly line: Line;
  readonly backup: Sidecar;
  readonly before: BackupJob | undefined;
}

async function make(site: RescanSite, line: Line, backup: Sidecar): Promise<void> {
  await site.put(backup, {
    sidecar: oneOf<'valid' | 'damaged' | 'absent'>(line.sidecar, ['valid', 'damaged', 'absent']),
    image: line.files === 'there',
  });
  if (line.row === 'absent') return;
  const writer = line.writer === '' ? undefined : oneOf<Writer>(line.writer, ['alive', 'unknown', 'silent', 'dead']);
  if (line.row === 'completed') await site.enter(backup, completedRow(site, backup));
  else if (line.row === 'placeholder')
    await site.enter(backup, { status: 'failed', error_message: placeholderMessage('somebody needs it') });
  else
    await site.enter(
      backup,
      { status: oneOf<'pending' | 'running' | 'failed' | 'cancelled'>(line.row, ['pending', 'running', 'failed', 'cancelled']) },
      writer,
    );
}

function completedRow({ repositoryId }: RescanSite, sidecar: Sidecar): Partial<BackupJob> {
  const found = { sidecar, damage: undefined, protectedUntil: null, policyIsKnown: false };
  return foundRow(found, repositoryId, undefined);
}

async function judge(site: RescanSite, { line, backup, before }: Case): Promise<BackupJob | undefined> {
  const what = JSON.stringify(line);
  const after = await site.row(backup.backup_id);
  expect(stateOf(after, before), what).toEqual(line.after);
  if (line.sidecar === 'valid' && line.after.startsWith('completed')) {
    const marks = { error_message: after?.error_message, verification_status: after?.verification_status };
    expect(after, what).toMatchObject({ ...completedRow(site, backup), ...marks });
  }
  return after;
}

function stateOf(after: BackupJob | undefined, before: BackupJob | undefined): string {
  if (!after) return 'absent';
  if (before && Object.keys(changesOf(before, after).set).length === 0) return 'as before';
  if (isPlaceholder(after)) return 'placeholder';
  if (after.status !== 'completed') return after.status;
  if (after.error_message === null) return 'completed';
  expect(after.verification_status).toBe('failed');
  return after.error_message === MISSING ? 'completed, marked missing' : 'completed, marked damaged';
}
