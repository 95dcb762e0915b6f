// What goes wrong around a running machine: the backup ends with one clear error, and the machine is as it was before.

import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { peerFolder } from '../nbd/nbd-peers.ts';
import { scriptedSocket } from '../source/scripted-socket.ts';
import { mountTmpfs } from '../store/temporary-mount.ts';
import { type RunningQemu, startQemu } from './running-qemu.ts';
import { noise, refusal, sharedScratchHome } from './scratch-home.ts';

const MIB = 1 << 20;
const user = sharedScratchHome();
const sockets = peerFolder();

async function startMachine(name: string, ...more: readonly string[]): Promise<RunningQemu> {
  const path = user.path(`${name}.img`);
  writeFileSync(path, noise(64 * MIB, 1));
  mkdirSync(user.path(`${name}-scratch`));
  mkdirSync(sockets(name));
  return startQemu(sockets(name), [{ path, format: 'raw' }], ...more);
}

const scratchOf = (name: string): readonly string[] => ['--scratch', user.path(`${name}-scratch`)];

describe('a machine', () => {
  it('whose QEMU serves exports of somebody else is refused, and those stay', async () => {
    const vm = await startMachine('serving');
    await vm.command('nbd-server-start', { addr: { type: 'unix', data: { path: sockets('theirs') } } });
    const refused = await user.refused('HYPERVISOR_FAILED', 'backup', vm.address, '--vm', 'serving', ...scratchOf('serving'));
    expect(refused.error).toContain('exports of somebody else');
    expect([await vm.leftovers(), await vm.bitmaps(0), readdirSync(user.path('serving-scratch'))]).toEqual([[], [], []]);
    await vm.command('block-export-add', { type: 'nbd', id: 'theirs', 'node-name': 'node0' });
  });

  it('with an iothread is refused where its QEMU would die of the backup, and left alone', async () => {
    const vm = await startMachine('threaded', '-object', 'iothread,id=io0');
    const version = await vm.command('query-version');
    const refused = await user.run('backup', vm.address, '--vm', 'threaded', ...scratchOf('threaded'), '--json');
    if (JSON.stringify(version).includes('"major":7')) expect(refusal(refused, 'SOURCE_INVALID').error).toContain('has iothreads');
    else expect(refused.code, refused.stderr).toBe(0);
    expect([await vm.leftovers(), readdirSync(user.path('threaded-scratch'))]).toEqual([[], []]);
  });

  it('that is switched off during the backup ends it, and nothing is kept', async () => {
    const vm = await startMachine('switched-off');
    const running = user.start('backup', vm.address, '--vm', 'switched-off', ...scratchOf('switched-off'), '--json');
    await user.appears('switched-off-scratch/chainkeep-*/nbd.sock');
    running.kill('SIGSTOP');
    await vm.quit();
    running.kill('SIGCONT');
    refusal(await running.ended, 'CONNECTION_FAILED');
    expect(readdirSync(user.path('switched-off-scratch'))).toEqual([]);
    expect(await user.json('vms')).toMatchObject({
      vms: expect.not.arrayContaining([expect.objectContaining({ vm_name: 'switched-off' })]),
    });
  });

  it('that another run is backing up is refused, also over another monitor', async () => {
    const vm = await startMachine('twice');
    // For more than a minute, so that it does not end before the other one has come.
    await user.json('repo', 'add', 'slow', '--path', user.path('slow'), '--set', 'limits.upload_bytes_per_second=1M');
    const running = user.start('backup', vm.address, '--vm', 'twice', '--repo', 'slow', ...scratchOf('twice'), '--json');
    await user.appears('twice-scratch/chainkeep-*/nbd.sock');
    const refused = await user.refused('BACKUP_IN_PROGRESS', 'backup', vm.otherAddress, '--vm', 'twice-again', ...scratchOf('twice'));
    expect(refused.error).toContain(`process ${running.pid} `);
    running.kill('SIGINT');
    refusal(await running.ended, 'CANCELLED');
    expect(await vm.leftovers()).toEqual([]);
    await user.json('repo', 'remove', 'slow', '--forget');
  });

  it('is given way to before its scratch folder is full', async ({ skip }) => {
    const vm = await startMachine('full');
    const mounted = mountTmpfs('size=64m');
    if (typeof mounted === 'string') return skip(mounted);
    onTestFinished(() => mounted.dispose());
    const folder = mounted.path;
    const running = user.start('backup', vm.address, '--vm', 'full', '--scratch', folder, '--json');
    await user.appears(`${folder}/chainkeep-*/nbd.sock`);
    running.kill('SIGSTOP');
    writeFileSync(`${folder}/filler`, Buffer.alloc(60 * MIB));
    // Its next look at the folder is due then, before it has read the disk.
    await sleep(1000);
    running.kill('SIGCONT');
    const refused = refusal(await running.ended, 'INSUFFICIENT_STORAGE');
    expect(refused.advice).toContain('--scratch');
    expect([await vm.leftovers(), await vm.bitmaps(0), readdirSync(folder)]).toEqual([[], [], ['filler']]);
    await user.refused('INSUFFICIENT_STORAGE', 'backup', vm.address, '--vm', 'full', '--scratch', folder);
  });

  it('whose guest has an agent is at rest in that one moment', async () => {
    const vm = await startMachine('rested');
    const jobs: number[] = [];
    const agent = await scriptedSocket(sockets('agent'), (line, socket) => {
      const { execute, arguments: given } = JSON.parse(line.replace(/^\xff/, ''));
      if (execute === 'guest-sync-delimited') return `\xff${JSON.stringify({ return: given.id })}\n`;
      if (execute === 'guest-fsfreeze-status') return '{"return": "thawed"}\n';
      // What is there at this moment is told before the answer.
      void vm
        .leftovers()
        .then((names) => jobs.push(names.filter((name) => /^chainkeep-[^c].*-0$/.test(name)).length))
        .finally(() => socket.write('{"return": 1}\n'));
      return undefined;
    });
    const run = await user.run('backup', vm.address, '--vm', 'rested', ...scratchOf('rested'), '--guest-agent', agent.path);
    expect([run.code, run.stderr.includes('power loss')]).toEqual([0, false]);
    // No job when it is frozen, one when it is thawed.
    expect(jobs).toEqual([0, 1]);
  });
});

describe('wrong usage', () => {
  it('of options that do not fit a machine, or fit nothing else', async () => {
    const address = `qmp:${sockets('none')}`;
    await user.refused('CONNECTION_FAILED', 'backup', address, '--vm', 'x');
    await user.refused('USAGE', 'backup', 'qmp:', '--vm', 'x');
    await user.refused('USAGE', 'backup', address, '--vm', 'x', '--disk', '1');
    await user.refused('USAGE', 'backup', '--disk', `0=${address}`, '--vm', 'x');
    await user.refused('CONFIG_INVALID', 'backup', address, '--vm', 'x', '--change-id', 'a');
    await user.refused('CONFIG_INVALID', 'backup', address, '--vm', 'x', '--format', 'qcow2');
    await user.refused('CONFIG_INVALID', 'backup', user.path('x.img'), '--vm', 'x', '--scratch', user.folder);
    expect(await user.json('vms')).toMatchObject({ vms: expect.not.arrayContaining([expect.objectContaining({ name: 'x' })]) });
  });
});
