// Disks that agents push over NBD become backups: 'nbdcopy', 'qemu-img' and 'qemu-io' push, and whatever is not completed commits nothing.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { BackupDetails, PushOutcome, ServedPush } from '../../src/app-interface.ts';
import { openNbdReader } from '../../src/nbd/client/nbd-reader.ts';
import { runTool } from '../nbd/nbd-peers.ts';
import { noise, qemuIo, sharedScratchHome } from './scratch-home.ts';
import { type Serving, startServing } from './start-serving.ts';

const MIB = 1 << 20;
const SIZE = 24 * MIB + 512;
const user = sharedScratchHome();
const disk = user.path('disk.img');

beforeAll(() => writeFileSync(disk, Buffer.concat([noise(5 * MIB, 1), Buffer.alloc(15 * MIB), noise(4 * MIB + 512, 2)])));

interface Receiving {
  readonly job_id: string;
  readonly address: string;
}

async function receive(vm: string, ...args: readonly string[]): Promise<Serving<Receiving>> {
  const { disks, ...serving } = await startServing<ServedPush>(user, 'receive', '--vm', vm, '--disk', '0', '--size', String(SIZE), ...args);
  return { ...serving, address: disks[0]?.address ?? '' };
}

async function complete(serving: Serving<Receiving>, ...args: readonly string[]): Promise<string> {
  const { backups } = await user.json<PushOutcome>('receive', 'complete', serving.job_id, ...args);
  expect(await serving.command.ended).toMatchObject({ code: 0 });
  expect(backups.length).toBe(1);
  return backups[0]?.backup_id ?? '';
}

async function push(address: string, ...commands: readonly string[]): Promise<void> {
  const args = commands.flatMap((command) => ['-c', command]);
  expect(await runTool('qemu-io', '-f', 'raw', '-d', 'unmap', address, ...args)).toMatchObject({ code: 0 });
}

const show = (id: string): Promise<BackupDetails> => user.json('show', id);

/** A client that stays until it is killed; resolves when it has written. */
async function lingering(address: string, command: string): Promise<{ vanish(): Promise<void>; leave(): Promise<void> }> {
  const client = spawn('qemu-io', ['-f', 'raw', address], { stdio: ['pipe', 'pipe', 'inherit'] });
  onTestFinished(() => void client.kill('SIGKILL'));
  const gone = once(client, 'close');
  client.stdin.write(`${command}\n`);
  for (let said = ''; !said.includes('ops;'); ) said += String((await once(client.stdout, 'data'))[0]);
  return {
    vanish: async () => {
      client.kill('SIGKILL');
      await gone;
    },
    leave: async () => {
      client.stdin.end('quit\n');
      await gone;
    },
  };
}

/** No backup, no VM, no file. */
async function expectNothingOf(vm: string): Promise<void> {
  expect((await user.json<{ vms: { vm_name: string }[] }>('vms')).vms.map(({ vm_name }) => vm_name)).not.toContain(vm);
  expect(user.files('home').filter((name) => /scratch\/.|receive-/.test(name))).toEqual([]);
}

describe('a pushed disk', () => {
  it('is a full backup, and the next push an incremental of what differs', async () => {
    const first = await receive('web');
    expect(await runTool('nbdcopy', '--connections=4', disk, first.address)).toMatchObject({ code: 0 });
    const full = await complete(first, '--change-id', 'c1');
    expect(await show(full)).toMatchObject({ backup_type: 'full', change_id: 'c1', source: 'push', total_bytes: SIZE });
    await user.expectRestores(full, disk);
    const changed = user.save(disk, 'changed.img');
    qemuIo(changed, 'raw', 'write -P 5 6M 100k', 'write -z 1M 1M');
    const second = await receive('web', '--change-id', 'c2', '--listen', 'tcp:127.0.0.1:0');
    expect(second.address).toMatch(/^nbd:\/\/127\.0\.0\.1:/);
    expect(await runTool('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw', changed, second.address)).toMatchObject({ code: 0 });
    const incremental = await complete(second);
    expect(await show(incremental)).toMatchObject({ backup_type: 'incremental', parent_backup_id: full, change_id: 'c2' });
    expect(statSync(user.image(incremental)).size).toBeLessThan(2 * MIB);
    await user.expectRestores(incremental, changed);
    expect((await user.verifyAll()).damaged).toEqual([]);
    expect(user.files('home').filter((name) => /scratch\/.|receive-/.test(name))).toEqual([]);
  });

  it('may be written in any order, in parts of clusters, with zeros and trims', async () => {
    const model = user.path('model.img');
    writeFileSync(model, Buffer.alloc(SIZE));
    const writes = ['write -P 1 20M 1M', 'write -P 2 100 3000', 'write -P 3 65000 70000', 'write -P 4 3M 2M', 'write -P 6 130000 9'];
    const zeros = ['write -z 3100k 300k', 'write -z 20M 64k', 'write -P 7 3200k 512'];
    qemuIo(model, 'raw', ...writes, ...zeros, 'write -z 4M 512k', 'write -P 9 25165824 512');
    const serving = await receive('parts');
    // Two clients, one after the other; the last bytes of the disk are no whole cluster.
    await push(serving.address, ...writes);
    await push(serving.address, ...zeros, 'discard 4M 512k', 'write -P 9 25165824 512', 'flush');
    const id = await complete(serving);
    await user.expectRestores(id, model);
  });

  it('is completed only when the last client has said goodbye', async () => {
    const serving = await receive('slow');
    const client = await lingering(serving.address, 'write -P 1 0 64k');
    const completing = user.start('receive', 'complete', serving.job_id, '--json');
    let ended = false;
    const done = completing.ended.then((run) => {
      ended = true;
      return run;
    });
    await push(serving.address, 'write -P 2 1M 64k');
    await new Promise((resolve) => setTimeout(resolve, 1000));
    expect(ended).toBe(false);
    await client.leave();
    const { backups } = JSON.parse((await done).stdout) as PushOutcome;
    await serving.command.ended;
    const restored = user.path('slow.raw');
    await user.json('restore', backups[0]?.backup_id ?? '', restored);
    expect([0, MIB].map((at) => readFileSync(restored)[at])).toEqual([1, 2]);
  });

  it('may be one of several of a restore point', async () => {
    const serving = await startServing<ServedPush>(user, 'receive', '--vm', 'pair', '--disk', `0=${SIZE}`, '--disk', '4=1M');
    expect(serving.disks.map(({ disk_id, total_bytes }) => [disk_id, total_bytes])).toEqual([
      [0, SIZE],
      [4, MIB],
    ]);
    await Promise.all(serving.disks.map(({ address }) => push(address, 'write -P 3 0 1M')));
    const { backups, restore_point_id } = await user.json<PushOutcome>('receive', 'complete', serving.job_id);
    expect(backups.map(({ disk_id }) => disk_id)).toEqual([0, 4]);
    expect(await Promise.all(backups.map(async ({ backup_id }) => (await show(backup_id)).restore_point_id))).toEqual([
      restore_point_id,
      restore_point_id,
    ]);
    expect(await serving.command.ended).toMatchObject({ code: 0 });
  });
});

describe('what was changed since a backup', () => {
  it('is all that has to be pushed: the rest reads as the parent', async () => {
    const { backup_id: parent } = await user.backup(disk, 'delta', '--change-id', 'c1');
    const serving = await receive('delta', '--since-change-id', 'c1', '--change-id', 'c2');
    expect(await runTool('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', serving.address, disk)).toMatchObject({ code: 0 });
    const model = user.save(disk, 'delta.img');
    const writes = ['write -P 1 4M 300', 'write -P 2 12M 200k', 'write -z 64k 128k', 'write -P 3 22M 64k'];
    qemuIo(model, 'raw', ...writes);
    await push(serving.address, ...writes);
    const id = await complete(serving);
    expect(await show(id)).toMatchObject({ backup_type: 'incremental', parent_backup_id: parent, change_id: 'c2' });
    // Neither the parent nor the rest of the disk was read for it.
    expect((await show(id)).bytes_read).toBeLessThan(MIB);
    await user.expectRestores(id, model);
    // Since a mark that is not the parent's nothing can be pushed, and nothing is served.
    const refusal = await user.refused('CHANGE_ID_MISMATCH', 'receive', '--vm', 'delta', '--size', String(SIZE), '--since-change-id', 'c1');
    expect(refusal.error).toContain('"c2"');
    const differential = await receive('delta', '--since-change-id', 'c1', '--type', 'differential');
    await push(differential.address, 'write -P 8 0 64k');
    const onFull = await complete(differential);
    expect(await show(onFull)).toMatchObject({ backup_type: 'differential', parent_backup_id: parent });
    qemuIo(user.save(disk, 'on-full.img'), 'raw', 'write -P 8 0 64k');
    await user.expectRestores(onFull, user.path('on-full.img'));
    expect((await user.verifyAll()).damaged).toEqual([]);
  });

  it('is right also when another backup of the disk came between', async () => {
    const source = user.save(disk, 'between.img');
    await user.backup(source, 'between', '--change-id', 'same');
    const serving = await receive('between', '--since-change-id', 'same');
    await push(serving.address, 'write -P 1 8M 64k');
    // Kept with the same mark, and another content: what was not written reads as the backup that the push began with.
    qemuIo(source, 'raw', 'write -P 9 10M 64k');
    await user.backup(source, 'between', '--change-id', 'same');
    const id = await complete(serving);
    qemuIo(user.save(disk, 'pushed.img'), 'raw', 'write -P 1 8M 64k');
    await user.expectRestores(id, user.path('pushed.img'));
  });

  it('needs a backup to stand on', async () => {
    await user.refused('CHANGE_ID_MISMATCH', 'receive', '--vm', 'new', '--size', '1M', '--since-change-id', 'c1');
    await expectNothingOf('new');
  });
});

describe('a push that does not come to its end', () => {
  it('commits nothing when it is cancelled', async () => {
    const serving = await receive('cancelled');
    await push(serving.address, 'write -P 1 0 1M');
    await user.json('jobs', 'cancel', serving.job_id);
    expect(await serving.command.ended).toMatchObject({ code: 1 });
    await user.refused('JOB_ENDED', 'receive', 'complete', serving.job_id);
    const interrupted = await receive('cancelled');
    interrupted.command.kill('SIGINT');
    expect(await interrupted.command.ended).toMatchObject({ code: 1 });
    await expectNothingOf('cancelled');
  });

  it('commits nothing when its client vanished and none came back, also when somebody says that it is complete', async () => {
    const serving = await receive('lost', '--reconnect-within', '1');
    const client = await lingering(serving.address, 'write -P 1 0 1M');
    await client.vanish();
    const refusal = await user.refused('CONNECTION_FAILED', 'receive', 'complete', serving.job_id);
    expect(refusal.error).toContain('vanished without a goodbye');
    expect(await serving.command.ended).toMatchObject({ code: 1 });
    await expectNothingOf('lost');
  });

  it('goes on when the client comes back in time', async () => {
    const serving = await receive('back', '--reconnect-within', '60');
    const client = await lingering(serving.address, 'write -P 1 0 1M');
    await client.vanish();
    expect(await runTool('nbdcopy', disk, serving.address)).toMatchObject({ code: 0 });
    await user.expectRestores(await complete(serving), disk);
  });

  it('is given up when nobody comes', async () => {
    const serving = await receive('nobody', '--wait', '1');
    const run = await serving.command.ended;
    expect(run).toMatchObject({ code: 1, stderr: expect.stringContaining('no client came to disk 0 within 1 s') });
  });

  it('commits nothing when its process is killed, and the next command clears up after it', async () => {
    const serving = await receive('killed');
    const socket = /socket=(.*)$/.exec(serving.address)?.[1] ?? '';
    await push(serving.address, 'write -P 1 0 4M');
    expect(existsSync(socket)).toBe(true);
    serving.command.kill('SIGKILL');
    await serving.command.ended;
    await user.refused('JOB_ENDED', 'receive', 'complete', serving.job_id);
    expect((await user.showJob(serving.job_id)).job.status).toBe('failed');
    await expectNothingOf('killed');
  });

  it('is no backup when nothing was written to it', async () => {
    const serving = await receive('empty');
    const reader = await openNbdReader(serving.address);
    await reader.read(Buffer.alloc(512), 0);
    await reader.close();
    await user.refused('PUSH_INCOMPLETE', 'receive', 'complete', serving.job_id);
    expect(await serving.command.ended).toMatchObject({ code: 1 });
    await expectNothingOf('empty');
  });
});

describe('the room for a push', () => {
  it('is asked for before anything is served, and both numbers are told', async () => {
    const refusal = await user.refused('INSUFFICIENT_STORAGE', 'receive', '--vm', 'huge', '--size', '60T');
    expect(refusal).toMatchObject({ required_bytes: 60 * 1024 ** 4, available_bytes: expect.any(Number) });
    await expectNothingOf('huge');
  });

  it('that does not suffice ends the push, and nothing of it is kept', async () => {
    const serving = await receive('tight', '--scratch-size', '1M');
    expect((await runTool('nbdcopy', disk, serving.address)).code).not.toBe(0);
    const run = await serving.command.ended;
    expect(run).toMatchObject({ code: 1, stderr: expect.stringContaining('what is written needs more than the 1048576 bytes') });
    await expectNothingOf('tight');
  });
});

describe('the commands', () => {
  it('refuse what does not fit, and remember how long is waited', async () => {
    await user.refused('USAGE', 'receive', '--size', '1M');
    await user.refused('USAGE', 'receive', '--vm', 'web');
    const { job_id } = await user.backup(disk, 'other');
    await user.refused('JOB_NOT_RECEIVING', 'receive', 'complete', job_id);
    await user.refused('USAGE', 'receive', 'complete', job_id, '--size', '1M');
    expect(await user.json('receive', 'limits')).toEqual({ reconnect_within: 300, wait: 86_400 });
    expect(await user.json('receive', 'limits', '--reconnect-within', '20')).toEqual({ reconnect_within: 20, wait: 86_400 });
  });
});
