// A restore point served over NBD, as a user does it: read by 'qemu-img', 'qemu-io', 'nbdcopy' and 'nbdinfo', which must see the disk and nothing wrong.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import type { JobDetails } from '../../src/app-interface.ts';
import { openNbdReader } from '../../src/nbd/client/nbd-reader.ts';
import { runTool } from '../nbd/nbd-peers.ts';
import { makeTlsMaterial } from '../nbd/tls-material.ts';
import { noise, qemuIo, sharedScratchHome } from './scratch-home.ts';
import { endServing, type Serving, startServing } from './start-serving.ts';

const MIB = 1 << 20;
const user = sharedScratchHome();
const disk = user.path('disk.img');
const taken: { id: string; copy: string }[] = [];

beforeAll(async () => {
  writeFileSync(disk, Buffer.concat([noise(3 * MIB, 1), Buffer.alloc(9 * MIB), noise(4 * MIB + 700, 2)]));
  for (const command of ['write -P 3 5M 300k', 'write -z 1M 1M', 'write -P 5 15M 64k']) {
    taken.push({ id: (await user.backup(disk, 'web')).backup_id, copy: user.save(disk, `copy-${taken.length}.img`) });
    qemuIo(disk, 'raw', command);
  }
});

const oldest = (): { id: string; copy: string } => taken[0] ?? { id: '', copy: '' };
const newest = (): { id: string; copy: string } => taken.at(-1) ?? { id: '', copy: '' };

interface ServedBackup {
  readonly backup_id: string;
  readonly address: string;
  readonly total_bytes: number;
  readonly job_id: string;
}

type Exporting = Serving<ServedBackup> & { readonly socket: string };

async function serve(...args: readonly string[]): Promise<Exporting> {
  const serving = await startServing<ServedBackup>(user, 'export', ...args);
  return { ...serving, socket: /socket=(.*)$/.exec(serving.address)?.[1] ?? '' };
}

const end = endServing;

describe('a restore point as an export', () => {
  it('is the disk as it was, of each point, for every client, and says where it reads as zeros', async () => {
    for (const { id, copy } of [oldest(), newest()]) {
      const serving = await serve(id);
      expect(serving).toMatchObject({ backup_id: id, total_bytes: readFileSync(copy).length });
      const copied = user.path(`copied-${id}.img`);
      expect(await runTool('nbdcopy', '--requests=64', serving.address, copied)).toMatchObject({ code: 0 });
      expect(readFileSync(copied).equals(readFileSync(copy))).toBe(true);
      expect(await runTool('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', serving.address, copy)).toMatchObject({ code: 0 });
      const { stdout } = await runTool('nbdinfo', '--map', '--json', serving.address);
      const zeros = (JSON.parse(stdout) as { length: number; type: number }[]).filter(({ type }) => type === 3);
      expect(zeros.reduce((sum, { length }) => sum + length, 0)).toBeGreaterThanOrEqual(8 * MIB);
      await end(serving);
    }
  });

  it('is read in pieces of any size and place, and cannot be written to', async () => {
    const serving = await serve(newest().id);
    const { address } = serving;
    const bytes = readFileSync(newest().copy);
    const reader = await openNbdReader(address);
    for (const [offset, length] of [
      [0, 1],
      [65_535, 2],
      [3 * MIB - 100, 70_000],
      [bytes.length - 3, 3],
      [16 * MIB - 65_536, 65_536 + 700],
    ] as const) {
      const part = Buffer.alloc(length, 0xaa);
      await reader.read(part, offset);
      expect(part.equals(bytes.subarray(offset, offset + length)), `${length} bytes at ${offset}`).toBe(true);
    }
    await reader.close();
    expect((await runTool('qemu-io', '-f', 'raw', address, '-c', 'write 0 512')).code).not.toBe(0);
    await end(serving);
  });

  it('is waited for by a delete, listed as a job, and leaves nothing when it ends', async () => {
    const { backup_id: id } = await user.backup(disk, 'to delete');
    const serving = await serve(id);
    expect(existsSync(serving.socket)).toBe(true);
    let deleted = false;
    const deleting = user.run('delete', id).then((run) => {
      deleted = true;
      return run;
    });
    await new Promise((resolve) => setTimeout(resolve, 2000));
    expect(deleted).toBe(false);
    await user.json('jobs', 'cancel', serving.job_id);
    expect(await serving.command.ended).toMatchObject({ code: 0 });
    expect(await deleting).toMatchObject({ code: 0 });
    expect(existsSync(serving.socket)).toBe(false);
    expect((await user.json<JobDetails>('jobs', 'show', serving.job_id)).job).toMatchObject({ job_type: 'export', status: 'completed' });
  });

  it('of a process that was killed leaves no socket behind the next command', async () => {
    const serving = await serve(newest().id);
    serving.command.kill('SIGKILL');
    await serving.command.ended;
    await user.json('list');
    expect(existsSync(serving.socket)).toBe(false);
  });
});

describe('a damaged restore point', () => {
  it('gives every byte that is good, and an error for those that are not', async () => {
    const backup = await user.backup(disk, 'rotten', '--compression', 'none', '--type', 'full');
    const image = user.image(backup.backup_id);
    const bytes = readFileSync(image);
    const content = readFileSync(disk);
    const at = bytes.indexOf(content.subarray(2 * MIB, 2 * MIB + 64));
    expect(at).toBeGreaterThan(0);
    bytes[at + 5] = (bytes[at + 5] ?? 0) ^ 1;
    writeFileSync(image, bytes);
    const serving = await serve(backup.backup_id);
    const read = (offset: number) => runTool('qemu-io', '-r', '-f', 'raw', serving.address, '-c', `read ${offset} 4k`);
    expect((await read(2 * MIB)).code).not.toBe(0);
    expect((await read(2 * MIB + 65_536)).code).toBe(0);
    expect((await runTool('nbdcopy', serving.address, user.path('rotten.img'))).code).not.toBe(0);
    await end(serving);
    const { stdout } = await user.run('jobs', 'log', serving.job_id);
    expect(stdout).toContain(`damaged at guest offset ${2 * MIB}`);
  });
});

describe('the address', () => {
  it('of the network needs TLS or the word for going without', async () => {
    await user.refused('CONFIG_INVALID', 'export', newest().id, '--listen', 'tcp:0.0.0.0:0');
    await user.refused('USAGE', 'export', newest().id, '--listen', 'localhost');
    const serving = await serve('latest', '--vm', 'web', '--listen', 'tcp:127.0.0.1:0');
    expect(serving.address).toMatch(/^nbd:\/\/127\.0\.0\.1:\d+\/[0-9a-f]{32}$/);
    expect(await runTool('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', serving.address, newest().copy)).toMatchObject({ code: 0 });
    // Nobody is told a name.
    expect((await runTool('nbdinfo', '--list', serving.address.replace(/[0-9a-f]{32}$/, ''))).code).not.toBe(0);
    await end(serving);
  });

  it('with TLS lets in who has a certificate', async () => {
    const tls = makeTlsMaterial(user.path('tls'));
    const serving = await serve(newest().id, '--listen', 'tcp:127.0.0.1:0', '--tls-certificates', tls.folder);
    expect(serving.address).toMatch(/^nbds:/);
    const known = `${serving.address}?tls-certificates=${tls.folder}`;
    expect(await runTool('nbdcopy', known, user.path('over-tls.img'))).toMatchObject({ code: 0 });
    expect(readFileSync(user.path('over-tls.img')).equals(readFileSync(newest().copy))).toBe(true);
    expect((await runTool('nbdinfo', serving.address.replace('nbds:', 'nbd:'))).code).not.toBe(0);
    await end(serving);
  });
});
