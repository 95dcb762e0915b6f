// Incrementals by QEMU's dirty bitmaps, kept in real QCOW2 images and told by a real 'qemu-nbd': what is not marked is not read, and a bitmap that is not
// the one of the parent is not trusted.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { BackupOutcome } from '../../src/app-interface.ts';
import { type Peer, peerFolder, startServer } from '../nbd/nbd-peers.ts';
import { noise, qemuImg, qemuIo, sharedScratchHome } from './scratch-home.ts';

const MIB = 1 << 20;
const user = sharedScratchHome();
const scratch = peerFolder();
let served = 0;

/** A new image of 32 MiB, all of it noise. */
function makeImage(name: string): string {
  const raw = user.path(`${name}.raw`);
  writeFileSync(raw, noise(32 * MIB, 1));
  qemuImg('convert', '-f', 'raw', '-O', 'qcow2', raw, user.path(`${name}.qcow2`));
  return user.path(`${name}.qcow2`);
}

async function serve(image: string, ...bitmaps: readonly string[]): Promise<Peer> {
  served += 1;
  const options = bitmaps.flatMap((bitmap) => ['-B', bitmap]);
  const peer = await startServer(scratch(`s${served}`), 'qemu-nbd', ['-r', '-e', '4', '-f', 'qcow2', ...options, image]);
  onTestFinished(() => peer.stop());
  return peer;
}

interface Told {
  readonly outcome: BackupOutcome;
  readonly stderr: string;
}

async function backUp(image: string, bitmaps: readonly string[], vm: string, ...options: readonly string[]): Promise<Told> {
  const peer = await serve(image, ...bitmaps);
  const run = await user.run('backup', peer.address(), '--vm', vm, ...options, '--json');
  await peer.stop();
  expect(run.code, run.stderr).toBe(0);
  return { outcome: JSON.parse(run.stdout), stderr: run.stderr };
}

async function expectIs(backup: Told, image: string): Promise<void> {
  const copy = user.path('expected.raw');
  qemuImg('convert', '-f', 'qcow2', '-O', 'raw', image, copy);
  await user.expectRestores(backup.outcome.backup_id, copy);
}

describe('a dirty bitmap', () => {
  it('says what an incremental reads: 1 % dirty is at most 3 % of the full; a bitmap for each backup', async () => {
    const image = makeImage('rolled');
    qemuImg('bitmap', '--add', image, 'b0');
    const full = await backUp(image, ['b0'], 'rolled', '--bitmap', 'b0');
    expect(full.outcome).toMatchObject({ backup_type: 'full', bytes_read: 32 * MIB });
    qemuIo(image, 'qcow2', 'write -P 7 3M 192k', 'write -z 9M 64k', 'write -P 8 20M 64k');
    qemuImg('bitmap', '--add', image, 'b1');
    const first = await backUp(image, ['b0', 'b1'], 'rolled', '--bitmap', 'b0', '--change-id', 'b1');
    expect(first.outcome).toMatchObject({ backup_type: 'incremental', changes: expect.stringContaining('only what the bitmap b0 tells') });
    expect(first.outcome.bytes_read).toBeLessThanOrEqual(0.03 * full.outcome.bytes_read);
    await expectIs(first, image);
    qemuImg('bitmap', '--remove', image, 'b0');
    qemuIo(image, 'qcow2', 'write -P 9 25M 4k');
    const second = await backUp(image, ['b1'], 'rolled', '--bitmap', 'b1');
    expect(second.outcome.bytes_read).toBe(65_536);
    await expectIs(second, image);
    expect(await user.verifyAll()).toMatchObject({ damaged: [] });
  });

  it('that is never cleared serves incrementals and differentials alike', async () => {
    const image = makeImage('kept');
    qemuImg('bitmap', '--add', image, 'all');
    await backUp(image, ['all'], 'kept', '--bitmap', 'all');
    for (const round of [1, 2]) {
      qemuIo(image, 'qcow2', `write -P ${round} ${round}M 64k`);
      const next = await backUp(image, ['all'], 'kept', '--bitmap', 'all');
      expect(next.outcome).toMatchObject({ backup_type: 'incremental', bytes_read: round * 65_536, bytes_written: expect.any(Number) });
      expect(next.outcome.clusters_written).toBe(1);
      await expectIs(next, image);
    }
    const differential = await backUp(image, ['all'], 'kept', '--bitmap', 'all', '--type', 'differential');
    expect(differential.outcome).toMatchObject({ backup_type: 'differential', bytes_read: 2 * 65_536 });
    await expectIs(differential, image);
  });
});

describe('a bitmap that cannot be trusted: all of the disk is compared, and it is said', () => {
  it('another one than the parent has, or one that is missing', async () => {
    const image = makeImage('other');
    qemuImg('bitmap', '--add', image, 'b0');
    await backUp(image, ['b0'], 'other', '--bitmap', 'b0');
    qemuIo(image, 'qcow2', 'write -P 1 1M 64k');
    qemuImg('bitmap', '--add', image, 'late');
    const late = await backUp(image, ['late'], 'other', '--bitmap', 'late');
    expect(late.outcome).toMatchObject({ backup_type: 'incremental', bytes_read: 32 * MIB });
    expect(late.stderr).toMatch(/^note: the bitmap late does not tell what changed since .*"b0": all of the disk is read and compared$/m);
    await expectIs(late, image);
    const missing = await backUp(image, [], 'other', '--bitmap', 'late');
    expect(missing.outcome.bytes_read).toBe(32 * MIB);
    expect(missing.stderr).toMatch(/has no bitmap late/);
    // Nobody could tell what changed since that one.
    const again = await backUp(image, ['late'], 'other', '--bitmap', 'late');
    expect(again.stderr).toMatch(/kept without a change id: all of the disk is read and compared/);
    await expectIs(again, image);
  });

  it('one that was in use when its QEMU died', async () => {
    const image = makeImage('died');
    qemuImg('bitmap', '--add', image, 'b0');
    await backUp(image, ['b0'], 'died', '--bitmap', 'b0');
    const writer = spawn('qemu-io', ['-f', 'qcow2', image], { stdio: ['pipe', 'pipe', 'ignore'] });
    writer.stdin.write('write -P 5 2M 64k\nflush\n');
    for (let text = ''; !text.includes('wrote'); ) text += String((await once(writer.stdout, 'data'))[0]);
    writer.kill('SIGKILL');
    await once(writer, 'close');
    await expect(serve(image, 'b0')).rejects.toThrow(/inconsistent/);
    const compared = await backUp(image, [], 'died', '--bitmap', 'b0');
    expect(compared.outcome).toMatchObject({ backup_type: 'incremental', bytes_read: 32 * MIB });
    await expectIs(compared, image);
  });

  it('is asked for of what is no export, or with a list: refused', async () => {
    const image = makeImage('refused');
    await user.refused('CONFIG_INVALID', 'backup', image, '--vm', 'refused', '--format', 'qcow2', '--bitmap', 'b0');
    await user.refused('CONFIG_INVALID', 'backup', 'nbd://127.0.0.1:1/', '--vm', 'refused', '--bitmap', '');
    const list = ['--changed-extents', image, '--since-change-id', 'a'];
    await user.refused('USAGE', 'backup', image, '--vm', 'refused', '--bitmap', 'b0', ...list);
  });
});
