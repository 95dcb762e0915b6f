// Disks that change, vanish or fail while they are read or written: a clear error, nothing committed, nothing left.

import { appendFileSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { attachLoop } from './loop-device.ts';
import { noise, qemuImg, qemuIo, type Refusal, refusal, sharedScratchHome } from './scratch-home.ts';

const MIB = 1 << 20;
const SLOW = 'pread64:delay_enter=40000';
const user = sharedScratchHome();
const disk = user.path('disk.img');
const content = noise(24 * MIB, 1);
let first = '';

beforeAll(async () => {
  writeFileSync(disk, content);
  first = (await user.backup(disk, 'vm')).backup_id;
});
beforeEach(() => writeFileSync(disk, content));

/** Nothing was committed, nothing is left, the job says why, and the chain goes on. */
async function expectNothingCommitted(before: readonly string[], refused: Refusal): Promise<void> {
  const repository = 'home/repositories';
  expect(user.files(repository)).toEqual(before);
  const [job] = await user.jobs();
  expect(job).toMatchObject({ status: 'failed', error_message: refused.error, metadata: { error_code: refused.error_code } });
  expect((await user.jobLog(String(job?.job_id))).at(-1)).toMatchObject({ level: 'error', message: refused.error });
  expect((await user.list())[0]).toMatchObject({ status: 'failed' });
}

describe('a source', () => {
  it.for<[string, () => void]>([
    ['shrinks', () => truncateSync(disk, 3 * MIB)],
    ['shrinks by one byte', () => truncateSync(disk, 24 * MIB - 1)],
    ['grows', () => appendFileSync(disk, 'x')],
  ])('that %s during the backup', async ([, change]) => {
    const before = user.files('home/repositories');
    const run = user.startWithFault(SLOW, disk, 'backup', disk, '--vm', 'vm', '--json');
    await user.appears('**/*.qcow2.tmp-*');
    change();
    const refused = refusal(await run.ended, 'SOURCE_CHANGED');
    expect(refused.error).toContain(disk);
    await expectNothingCommitted(before, refused);
  });

  it('that fails to read, anywhere', async () => {
    // Each thread counts its own calls.
    for (const nth of [1, 2, 8]) {
      const before = user.files('home/repositories');
      const run = user.startWithFault(`pread64:error=EIO:when=${nth}`, disk, 'backup', disk, '--vm', 'vm', '--type', 'full', '--json');
      const refused = refusal(await run.ended, 'SOURCE_UNREADABLE');
      expect(refused.error).toContain(disk);
      expect(refused.error).toContain('EIO');
      if (nth > 2) await expectNothingCommitted(before, refused);
      expect(user.files('home/repositories')).toEqual(before);
    }
  });

  it('that says it is shorter than it is', async () => {
    const before = user.files('home/repositories');
    const run = user.startWithFault('pread64:retval=0:when=7', disk, 'backup', disk, '--vm', 'vm', '--type', 'full', '--json');
    await expectNothingCommitted(before, refusal(await run.ended, 'SOURCE_CHANGED'));
  });

  it('that is deleted meanwhile is read to its end', async () => {
    const run = user.startWithFault(SLOW, disk, 'backup', disk, '--vm', 'gone', '--json');
    await user.appears('**/*.qcow2.tmp-*');
    rmSync(disk);
    const ended = await run.ended;
    expect(ended.code, ended.stderr).toBe(0);
    writeFileSync(disk, content);
    await user.expectRestores(JSON.parse(ended.stdout).backup_id, disk);
  });

  it('that is a device which shrinks', async (context) => {
    const file = user.path('device.bin');
    writeFileSync(file, content);
    const device = attachLoop(file);
    if (typeof device === 'string') return context.skip(device);
    try {
      const before = user.files('home/repositories');
      const run = user.startWithFault(SLOW, device.path, 'backup', device.path, '--vm', 'vm', '--type', 'full', '--json');
      await user.appears('**/*.qcow2.tmp-*');
      truncateSync(file, 5 * MIB);
      device.resize();
      const ended = await run.ended;
      const code = JSON.parse(ended.stdout).error_code === 'SOURCE_UNREADABLE' ? 'SOURCE_UNREADABLE' : 'SOURCE_CHANGED';
      await expectNothingCommitted(before, refusal(ended, code));
    } finally {
      device.detach();
      rmSync(file);
    }
  });

  it('that is a QCOW2 image to which a VM writes meanwhile', async () => {
    const image = user.path('disk.qcow2');
    qemuImg('convert', '-f', 'raw', '-O', 'qcow2', disk, image);
    const before = user.files('home/repositories');
    const run = user.startWithFault(SLOW, image, 'backup', image, '--vm', 'vm', '--format', 'qcow2', '--json');
    await user.appears('**/*.qcow2.tmp-*');
    qemuIo(image, 'qcow2', 'write -P 1 23M 4k');
    await expectNothingCommitted(before, refusal(await run.ended, 'SOURCE_CHANGED'));
  });

  it('is good again afterwards: the chain goes on', async () => {
    const next = await user.backup(disk, 'vm');
    expect(next).toMatchObject({ backup_type: 'incremental', parent_backup_id: first, clusters_written: 0, bytes_read: 24 * MIB });
    await user.verifyAll();
  });
});

describe('the disk of the repository', () => {
  it.for<[string, string]>([
    ['pwritev', 'ENOSPC'],
    ['pwritev', 'EIO'],
    ['fsync', 'EIO'],
    ['link', 'EIO'],
  ])('fails a %s with %s: nothing is committed, and the next run is good', async ([call, error]) => {
    // The database writes with pwrite64; a sync that fails may be one of its own.
    const before = user.files('home/repositories');
    let failures = 0;
    for (const nth of [1, 2]) {
      const fault = ['-f', '-qq', '-o', '/dev/null', '-e', `trace=${call}`, '-e', `inject=${call}:error=${error}:when=${nth}`];
      const run = await user.traced(fault, ['backup', disk, '--vm', 'vm', '--type', 'full', '--json']);
      if (run.code === 0) {
        await user.json('delete', JSON.parse(run.stdout).backup_id);
      } else {
        failures += 1;
        const { error_code: code } = JSON.parse(run.stdout);
        expect(
          call === 'fsync' ? ['STORE_FAILED', 'CATALOG_FAILED'] : [error === 'ENOSPC' ? 'INSUFFICIENT_STORAGE' : 'STORE_FAILED'],
        ).toContain(code);
        refusal(run, code);
      }
      expect(user.files('home/repositories')).toEqual(before);
    }
    expect(failures).toBeGreaterThan(0);
    await user.verifyAll();
  });
});

describe('the disk of a target', () => {
  it('that fails leaves no file, and says so', async () => {
    const target = user.path('out.img');
    const image = user.image(first);
    const before = user.files();
    const read = user.startWithFault('pread64:error=EIO:when=6', image, 'restore', first, target, '--json');
    const unreadable = refusal(await read.ended, 'STORE_FAILED');
    expect(unreadable.error).toContain(first);
    expect(user.files()).toEqual(before);
    expect(readFileSync(disk).equals(content)).toBe(true);
  });
});
