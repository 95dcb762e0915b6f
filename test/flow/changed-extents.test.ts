// Backups by a list of what changed, as a user gives it: only that is read, and a list that does not fit is refused.

import { copyFileSync, truncateSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { noise, qemuIo, sharedScratchHome } from './scratch-home.ts';

const MIB = 1 << 20;
const user = sharedScratchHome();
const disk = user.path('disk.img');

function listOf(name: string, stretches: readonly { start?: number; offset?: number; length: number }[]): string {
  const path = user.path(name);
  writeFileSync(path, JSON.stringify(stretches));
  return path;
}

const since = (list: string, mark: string, ...more: readonly string[]): readonly string[] => [
  '--changed-extents',
  list,
  '--since-change-id',
  mark,
  ...more,
];

beforeAll(() => {
  writeFileSync(disk, noise(16 * MIB, 1));
  truncateSync(disk, 40 * MIB);
});

describe('a list of changed extents', () => {
  it('says all that is read, backup after backup, and a differential takes that of the full', async () => {
    const full = await user.backup(disk, 'listed', '--change-id', '52 aa/1');
    expect(full.bytes_read).toBe(16 * MIB);
    const states = [{ id: full.backup_id, copy: user.save(disk, 'state-0') }];
    qemuIo(disk, 'raw', 'write -P 7 5M 100k', 'write -z 9M 64k', 'write -P 8 30M 64k');
    const first = [
      { start: 5 * MIB, length: 102_400 },
      { start: 30 * MIB, length: 65_536 },
      { start: 9 * MIB, length: 65_536 },
    ];
    const plan = await user.json('backup', disk, '--vm', 'listed', ...since(listOf('1.json', first), '52 aa/1'), '--dry-run');
    expect(plan).toMatchObject({ backup_type: 'incremental', changes: expect.stringContaining('1.json tells as changed') });
    const one = await user.backup(disk, 'listed', ...since(user.path('1.json'), '52 aa/1', '--change-id', '52 aa/2'));
    expect(one.bytes_read).toBeLessThanOrEqual(4 * 65_536);
    states.push({ id: one.backup_id, copy: user.save(disk, 'state-1') });
    qemuIo(disk, 'raw', 'write -P 9 1M 4k');
    const second = [{ offset: MIB, length: 4096 }];
    const two = await user.backup(disk, 'listed', ...since(listOf('2.json', second), '52 aa/2', '--change-id', '52 aa/3'));
    expect(two.bytes_read).toBe(65_536);
    states.push({ id: two.backup_id, copy: user.save(disk, 'state-2') });
    const both = listOf('both.json', [...second, ...first]);
    await user.refused('CHANGE_ID_MISMATCH', 'backup', disk, '--vm', 'listed', '--type', 'differential', ...since(both, '52 aa/3'));
    const differential = await user.backup(disk, 'listed', '--type', 'differential', ...since(both, '52 aa/1', '--change-id', '52 aa/4'));
    expect(differential.bytes_read).toBeLessThanOrEqual(5 * 65_536);
    states.push({ id: differential.backup_id, copy: user.save(disk, 'state-2') });
    for (const { id, copy } of states) await user.expectRestores(id, copy);
    expect(await user.verifyAll()).toMatchObject({ damaged: [] });
    expect(await user.json('jobs', 'log', two.job_id)).toMatchObject({
      events: expect.arrayContaining([expect.objectContaining({ message: expect.stringContaining('2.json tells as changed since') })]),
    });
  });

  it('with another mark than that of the parent is refused, and nothing is made', async () => {
    const copy = user.save(disk, 'marked.img');
    await user.backup(copy, 'marked', '--change-id', 'a');
    const list = listOf('none.json', []);
    await user.refused('CHANGE_ID_MISMATCH', 'backup', copy, '--vm', 'marked', ...since(list, 'b'));
    await user.refused('CHANGE_ID_MISMATCH', 'backup', copy, '--vm', 'marked', ...since(list, 'b'), '--dry-run');
    await user.refused('CHANGES_INVALID', 'backup', copy, '--vm', 'marked', ...since(list, '*'));
    await user.refused('CONFIG_INVALID', 'backup', copy, '--vm', 'marked', ...since(list, ''));
    const empty = await user.backup(copy, 'marked', ...since(list, 'a'));
    expect(empty.bytes_read).toBe(0);
    // That one was kept without a mark.
    await user.refused('CHANGE_ID_MISMATCH', 'backup', copy, '--vm', 'marked', ...since(list, 'a'));
    expect(await user.list('--vm', 'marked', '--status', 'completed')).toHaveLength(2);
  });

  it('is not used for a full, nor where a new chain starts, and a disk that grew is read from its old end', async () => {
    const copy = user.save(disk, 'grown.img');
    const list = listOf('little.json', [{ start: 0, length: 512 }]);
    const full = await user.backup(copy, 'grown', ...since(list, 'whatever', '--change-id', 'a'));
    expect(full).toMatchObject({ backup_type: 'full', changes: expect.stringContaining('not used') });
    truncateSync(copy, 41 * MIB);
    qemuIo(copy, 'raw', 'write -P 3 40M 1M');
    const grown = await user.backup(copy, 'grown', ...since(list, 'a', '--change-id', 'b'));
    expect(grown).toMatchObject({ backup_type: 'incremental', bytes_read: MIB + 65_536 });
    await user.expectRestores(grown.backup_id, copy);
    truncateSync(copy, 8 * MIB);
    const shrunk = await user.backup(copy, 'grown', ...since(list, 'b'));
    expect(shrunk).toMatchObject({ backup_type: 'full', bytes_read: 8 * MIB });
  });

  it('of several disks at once, or half given, is wrong usage', async () => {
    copyFileSync(disk, user.path('second.img'));
    const list = listOf('usage.json', []);
    await user.refused(
      'USAGE',
      'backup',
      '--disk',
      `0=${disk}`,
      '--disk',
      `1=${user.path('second.img')}`,
      '--vm',
      'x',
      ...since(list, 'a'),
    );
    await user.refused('USAGE', 'backup', disk, '--vm', 'x', '--changed-extents', list);
    await user.refused('USAGE', 'backup', disk, '--vm', 'x', '--since-change-id', 'a');
  });

  it('that is missing, or no list, is refused', async () => {
    await user.refused('SOURCE_NOT_FOUND', 'backup', disk, '--vm', 'bad', ...since(user.path('no.json'), 'a'));
    const behind = listOf('bad.json', [{ start: 40 * MIB - 512, length: 513 }]);
    expect((await user.refused('CHANGES_INVALID', 'backup', disk, '--vm', 'bad', ...since(behind, 'a'))).error).toContain('bad.json');
  });
});
