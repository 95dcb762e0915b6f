// Backups of running domains through a real 'libvirtd' and 'virsh', which run a real 'qemu-system-x86_64': checkpoints, one moment, nothing left behind.

import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { LibvirtScene, MIB, reads } from './libvirt-scene.ts';
import { refusal } from './scratch-home.ts';

const scene = new LibvirtScene();

describe('a domain', () => {
  it('is one restore point; incrementals read what changed since the checkpoint of the parent', async () => {
    scene.startDomain('domain');
    const plan = await scene.run(...scene.backupOf('domain', '--dry-run'));
    expect(JSON.parse(plan.stdout).backups).toMatchObject([{ total_bytes: 24 * MIB }, { total_bytes: 10 * MIB }]);
    const first = scene.save('domain');
    const full = await scene.take('domain');
    expect(reads(full)).toEqual([24 * MIB, 10 * MIB]);
    expect(full.stderr).toContain('as after a power loss');
    await scene.expectRestores(full, first);
    scene.libvirt.write('domain', 0, 'write -P 7 3M 64k');
    scene.libvirt.write('domain', 1, 'write -P 8 5M 64k');
    const second = scene.save('domain');
    const incremental = await scene.take('domain');
    // Raw images keep no bitmaps.
    expect(reads(incremental)).toEqual([65_536, 10 * MIB]);
    expect(incremental.backups[0]?.changes).toContain('only what the bitmap chainkeep-');
    await scene.expectRestores(incremental, second);
    // Those of the full and of the newest.
    expect(scene.checkpoints('domain').length).toBe(2);
    scene.libvirt.write('domain', 0, 'write -P 9 9M 64k');
    const third = scene.save('domain');
    const differential = await scene.take('domain', '--type', 'differential');
    expect(reads(differential)[0]).toBe(2 * 65_536);
    await scene.expectRestores(differential, third);
    expect(scene.checkpoints('domain').length).toBe(2);
    expect(readdirSync(scene.user.path('domain-scratch'))).toEqual([]);
    expect(scene.libvirt.virsh('domjobinfo', '--domain', 'domain')).toMatch(/None/);
  });

  it('in which another backup is going on, that is shut down, or that is not there, is refused', async () => {
    scene.startDomain('busy');
    mkdirSync(scene.user.path('theirs'));
    const theirs = scene.libvirt.give(scene.user.path('theirs'));
    writeFileSync(`${theirs}.xml`, `<domainbackup mode='pull'><server transport='unix' socket='${theirs}/nbd.sock'/></domainbackup>`);
    scene.libvirt.virsh('backup-begin', '--domain', 'busy', `${theirs}.xml`);
    refusal(await scene.run(...scene.backupOf('busy')), 'BACKUP_IN_PROGRESS');
    scene.libvirt.virsh('domjobabort', '--domain', 'busy');
    refusal(await scene.run('backup', 'libvirt:--nobody', '--vm', 'x', '--json'), 'SOURCE_NOT_FOUND');
    refusal(await scene.run('backup', 'libvirt:busy', '--vm', 'x', '--guest-agent', '/x', '--json'), 'CONFIG_INVALID');
  });
});
