// The longer stories of domains of 'libvirtd': a run that is killed, a checkpoint that is broken.

import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { LAUNCHER } from '../cli/run-chainkeep.ts';
import { LibvirtScene, MIB } from './libvirt-scene.ts';

const scene = new LibvirtScene();

describe('a domain', () => {
  it('whose backup was killed is backed up all the same, and no change is lost', async () => {
    scene.startDomain('killed');
    await scene.take('killed');
    scene.libvirt.write('killed', 0, 'write -P 1 1M 64k');
    const [program = '', ...options] = scene.libvirt.as;
    const env = { ...process.env, NODE_V8_COVERAGE: '', CHAINKEEP_HOME: scene.user.path('home') };
    const running = spawn(program, [...options, LAUNCHER, ...scene.backupOf('killed')], { cwd: scene.user.folder, env, stdio: 'ignore' });
    await scene.user.appears('killed-scratch/chainkeep-*/nbd.sock');
    running.kill('SIGKILL');
    scene.libvirt.write('killed', 0, 'write -P 2 5M 64k');
    const copies = scene.save('killed');
    const next = await scene.take('killed');
    expect(next.stderr).toContain('a killed backup had left a job of this machine behind');
    expect(next.backups[0]).toMatchObject({ backup_type: 'incremental', bytes_read: 2 * 65_536 });
    await scene.expectRestores(next, copies);
    expect(scene.checkpoints('killed').length).toBe(2);
    expect(globSync('*', { cwd: scene.user.path('killed-scratch') })).toEqual([]);
  });

  it('whose checkpoint is broken is read as a whole, and it is said', async () => {
    scene.startDomain('broken');
    await scene.take('broken');
    const [name = ''] = scene.checkpoints('broken');
    scene.libvirt.virsh('qemu-monitor-command', '--domain', 'broken', '--pretty', JSON.stringify(removal(name)));
    scene.libvirt.write('broken', 0, 'write -P 1 1M 64k');
    const copies = scene.save('broken');
    const next = await scene.take('broken');
    expect(next.stderr).toContain('libvirt cannot use its checkpoints');
    expect(next.backups[0]).toMatchObject({ backup_type: 'incremental', bytes_read: 24 * MIB });
    await scene.expectRestores(next, copies);
  });
});

/** The command by which a bitmap goes without libvirt knowing it. */
function removal(name: string): object {
  const nodes = JSON.parse(scene.libvirt.virsh('qemu-monitor-command', '--domain', 'broken', '{"execute": "query-named-block-nodes"}'));
  const found = nodes.return.find((node: { 'dirty-bitmaps'?: { name?: string }[] }) =>
    node['dirty-bitmaps']?.some((one) => one.name === name),
  );
  return { execute: 'block-dirty-bitmap-remove', arguments: { node: found['node-name'], name } };
}
