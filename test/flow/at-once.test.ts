// Several commands at the same time: one writer for each disk, everybody else works on.

import { writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { BackupOutcome, VmView } from '../../src/app-interface.ts';
import { heldDisk } from './held-disk.ts';
import { noise, refusal, scratchHome } from './scratch-home.ts';

const MIB = 1 << 20;

describe('the same disk twice at once', () => {
  it('the second says who holds it; everything else goes on', async () => {
    const user = scratchHome();
    const disk = user.path('disk.img');
    const other = user.path('other.img');
    writeFileSync(disk, noise(40 * MIB, 1));
    writeFileSync(other, noise(MIB, 2));
    const first = await user.backup(disk, 'vm');
    const { address, letGo } = await heldDisk(user, noise(40 * MIB, 1));
    const run = user.start('backup', address, '--vm', 'vm', '--type', 'full', '--json');
    await user.appears('**/*.qcow2.tmp-*');
    const [busy] = await user.jobs('--status', 'running');
    const refused = await user.refused('BACKUP_IN_PROGRESS', 'backup', disk, '--vm', 'vm');
    expect(refused.error).toContain(String(busy?.job_id));
    expect(refused.error).toContain(String(run.pid));
    expect(refused.advice).toContain('jobs show');
    expect(refused).toMatchObject({ job_id: busy?.job_id, pid: run.pid });
    await user.refused('BACKUP_IN_PROGRESS', 'delete', first.backup_id);
    // Readers and other disks wait for nobody.
    expect(await user.json('verify', first.backup_id, '--quick')).toMatchObject({ damaged: [] });
    expect(await user.backup(other, 'vm', '--disk', '1')).toMatchObject({ backup_type: 'full' });
    expect(await user.list('--status', 'running')).toMatchObject([{ vm_name: 'vm', disk_id: 0 }]);
    expect((await user.list('--status', 'failed')).length).toBe(0);
    letGo();
    const ended = await run.ended;
    expect(ended.code, ended.stderr).toBe(0);
    const outcome: BackupOutcome = JSON.parse(ended.stdout);
    expect(await user.backup(disk, 'vm')).toMatchObject({ backup_type: 'incremental', parent_backup_id: outcome.backup_id });
    await user.verifyAll();
    expect((await user.jobs()).map((job) => job.status).filter((status) => status === 'failed').length).toBe(2);
  });

  it('for the first time: one VM, one repository, and nobody fails but for the disk', async () => {
    const user = scratchHome();
    for (const name of ['a', 'b', 'c', 'd']) writeFileSync(user.path(name), noise(MIB, 1));
    const runs = ['a', 'a', 'b', 'c', 'd'].map((name) =>
      user.start('backup', user.path(name), '--vm', 'new', '--disk', String('abcd'.indexOf(name)), '--json'),
    );
    const ended = await Promise.all(runs.map((run) => run.ended));
    const good = ended.filter((run) => run.code === 0).map((run): BackupOutcome => JSON.parse(run.stdout));
    for (const run of ended.filter(({ code }) => code !== 0)) refusal(run, 'BACKUP_IN_PROGRESS');
    expect(new Set(good.map((outcome) => outcome.disk_id))).toEqual(new Set([0, 1, 2, 3]));
    const { vms } = await user.json<{ vms: VmView[] }>('vms');
    expect(vms).toMatchObject([{ vm_name: 'new', backup_count: good.length }]);
    expect(await user.json('repo', 'list')).toMatchObject({ repositories: [{ name: 'default' }] });
    await user.verifyAll();
  });

  it('a delete during a verify is no damage', async () => {
    const user = scratchHome();
    const disk = user.path('disk.img');
    writeFileSync(disk, noise(16 * MIB, 1));
    await user.backup(disk, 'vm');
    const newest = await user.backup(disk, 'vm');
    await user.backup(disk, 'other');
    // For some seconds, so that it does not end before the delete has come.
    await user.json('repo', 'update', 'default', '--set', 'limits.download_bytes_per_second=4M');
    const run = user.start('verify', '--repo', 'default', '--json');
    while ((await user.jobs('--status', 'running')).length === 0);
    // Where the verify reads that very backup by now, the delete waits for it.
    const deleted = await user.run('delete', newest.backup_id, '--json');
    expect(deleted.code, deleted.stderr).toBe(0);
    const ended = await run.ended;
    expect(ended.code, ended.stderr).toBe(0);
    const outcome = JSON.parse(ended.stdout);
    expect(outcome).toMatchObject({ success: true, damaged: [] });
    // Three, where the verify had come to the deleted one before.
    expect([2, 3]).toContain(outcome.checked);
  });
});
