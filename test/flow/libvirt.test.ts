// Backups of running domains through a real 'libvirtd' and 'virsh', which run a real QEMU: checkpoints, one moment, nothing left behind.

import { spawn } from 'node:child_process';
import { globSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BackupOutcome } from '../../src/app-interface.ts';
import { LAUNCHER, type Run } from '../cli/run-chainkeep.ts';
import { startLibvirt, type TestLibvirt } from '../servers/libvirtd.ts';
import { noise, qemuImg, refusal, sharedScratchHome } from './scratch-home.ts';

const MIB = 1 << 20;
const user = sharedScratchHome();
let libvirt: TestLibvirt;

beforeAll(async () => {
  libvirt = await startLibvirt();
  libvirt.give(user.folder);
});
afterAll(() => libvirt.stop());

interface Point {
  readonly backups: readonly BackupOutcome[];
}

/** A domain with a QCOW2 disk of 24 MiB and a raw one of 10 MiB, all noise. */
function startDomain(name: string): void {
  writeFileSync(user.path(`${name}-0.raw`), noise(24 * MIB, 1));
  qemuImg('convert', '-f', 'raw', '-O', 'qcow2', user.path(`${name}-0.raw`), user.path(`${name}-0.qcow2`));
  writeFileSync(user.path(`${name}-1.img`), noise(10 * MIB, 2));
  mkdirSync(user.path(`${name}-scratch`));
  for (const file of [`${name}-0.qcow2`, `${name}-1.img`, `${name}-scratch`]) libvirt.give(user.path(file));
  libvirt.startDomain(name, [
    { path: user.path(`${name}-0.qcow2`), format: 'qcow2' },
    { path: user.path(`${name}-1.img`), format: 'raw' },
  ]);
}

const backupOf = (name: string, ...more: readonly string[]): readonly string[] => [
  ...['backup', `libvirt:${name}`, '--vm', name, '--scratch', user.path(`${name}-scratch`), ...more, '--json'],
];

function run(...args: readonly string[]): Promise<Run> {
  return user.runAs(libvirt.as, ...args);
}

async function take(name: string, ...more: readonly string[]): Promise<Point & { readonly stderr: string }> {
  const ended = await run(...backupOf(name, ...more));
  expect(ended.code, ended.stderr).toBe(0);
  return { ...JSON.parse(ended.stdout), stderr: ended.stderr };
}

const checkpoints = (name: string): string[] => libvirt.virsh('checkpoint-list', '--domain', name, '--name').split('\n').filter(Boolean);
const reads = ({ backups }: Point): number[] => backups.map(({ bytes_read: bytes }) => bytes);

function save(name: string): readonly string[] {
  qemuImg('convert', '-U', '-f', 'qcow2', '-O', 'raw', user.path(`${name}-0.qcow2`), user.path(`${name}-0.copy`));
  return [user.path(`${name}-0.copy`), user.save(user.path(`${name}-1.img`), `${name}-1.copy`)];
}

async function expectRestores({ backups }: Point, copies: readonly string[]): Promise<void> {
  for (const { backup_id: id, disk_id: disk } of backups) await user.expectRestores(id, copies[disk] ?? '');
}

describe('a domain', () => {
  it('is one restore point; incrementals read what changed since the checkpoint of the parent', async () => {
    startDomain('domain');
    const plan = await run(...backupOf('domain', '--dry-run'));
    expect(JSON.parse(plan.stdout).backups).toMatchObject([{ total_bytes: 24 * MIB }, { total_bytes: 10 * MIB }]);
    const first = save('domain');
    const full = await take('domain');
    expect(reads(full)).toEqual([24 * MIB, 10 * MIB]);
    expect(full.stderr).toContain('as after a power loss');
    await expectRestores(full, first);
    libvirt.write('domain', 0, 'write -P 7 3M 64k');
    libvirt.write('domain', 1, 'write -P 8 5M 64k');
    const second = save('domain');
    const incremental = await take('domain');
    // Raw images keep no bitmaps.
    expect(reads(incremental)).toEqual([65_536, 10 * MIB]);
    expect(incremental.backups[0]?.changes).toContain('only what the bitmap chainkeep-');
    await expectRestores(incremental, second);
    libvirt.write('domain', 0, 'write -P 9 9M 64k');
    const third = save('domain');
    const next = await take('domain');
    expect(reads(next)[0]).toBe(65_536);
    await expectRestores(next, third);
    // Those of the full and of the newest.
    expect(checkpoints('domain').length).toBe(2);
    const differential = await take('domain', '--type', 'differential');
    expect(reads(differential)[0]).toBe(2 * 65_536);
    await expectRestores(differential, third);
    expect(checkpoints('domain').length).toBe(2);
    expect(readdirSync(user.path('domain-scratch'))).toEqual([]);
    expect(libvirt.virsh('domjobinfo', '--domain', 'domain')).toMatch(/None/);
  });

  it('whose backup was killed is backed up all the same, and no change is lost', async () => {
    startDomain('killed');
    await take('killed');
    libvirt.write('killed', 0, 'write -P 1 1M 64k');
    const [program = '', ...options] = libvirt.as;
    const env = { ...process.env, NODE_V8_COVERAGE: '', CHAINKEEP_HOME: user.path('home') };
    const running = spawn(program, [...options, LAUNCHER, ...backupOf('killed')], { cwd: user.folder, env, stdio: 'ignore' });
    await user.appears('killed-scratch/chainkeep-*/nbd.sock');
    running.kill('SIGKILL');
    libvirt.write('killed', 0, 'write -P 2 5M 64k');
    const copies = save('killed');
    const next = await take('killed');
    expect(next.stderr).toContain('a killed backup had left a job of this machine behind');
    expect(next.backups[0]).toMatchObject({ backup_type: 'incremental', bytes_read: 2 * 65_536 });
    await expectRestores(next, copies);
    expect(checkpoints('killed').length).toBe(2);
    expect(globSync('*', { cwd: user.path('killed-scratch') })).toEqual([]);
  });

  it('in which another backup is going on, that is shut down, or that is not there, is refused', async () => {
    startDomain('busy');
    mkdirSync(user.path('theirs'));
    const theirs = libvirt.give(user.path('theirs'));
    writeFileSync(`${theirs}.xml`, `<domainbackup mode='pull'><server transport='unix' socket='${theirs}/nbd.sock'/></domainbackup>`);
    libvirt.virsh('backup-begin', '--domain', 'busy', `${theirs}.xml`);
    refusal(await run(...backupOf('busy')), 'BACKUP_IN_PROGRESS');
    libvirt.virsh('domjobabort', '--domain', 'busy');
    refusal(await run('backup', 'libvirt:--nobody', '--vm', 'x', '--json'), 'SOURCE_NOT_FOUND');
    refusal(await run('backup', 'libvirt:busy', '--vm', 'x', '--guest-agent', '/x', '--json'), 'CONFIG_INVALID');
  });

  it('whose checkpoint is broken is read as a whole, and it is said', async () => {
    startDomain('broken');
    await take('broken');
    const [name = ''] = checkpoints('broken');
    libvirt.virsh('qemu-monitor-command', '--domain', 'broken', '--pretty', JSON.stringify(removal(name)));
    libvirt.write('broken', 0, 'write -P 1 1M 64k');
    const copies = save('broken');
    const next = await take('broken');
    expect(next.stderr).toContain('libvirt cannot use its checkpoints');
    expect(next.backups[0]).toMatchObject({ backup_type: 'incremental', bytes_read: 24 * MIB });
    await expectRestores(next, copies);
  });
});

/** The command by which a bitmap goes without libvirt knowing it. */
function removal(name: string): object {
  const nodes = JSON.parse(libvirt.virsh('qemu-monitor-command', '--domain', 'broken', '{"execute": "query-named-block-nodes"}'));
  const found = nodes.return.find((node: { 'dirty-bitmaps'?: { name?: string }[] }) =>
    node['dirty-bitmaps']?.some((one) => one.name === name),
  );
  return { execute: 'block-dirty-bitmap-remove', arguments: { node: found['node-name'], name } };
}
