// Backups of every kind of source: QCOW2 images as other tools make them, block devices, disks that grow, shrink and change.

import { appendFileSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { mountTmpfs } from '../store/temporary-mount.ts';
import { attachLoop } from './loop-device.ts';
import { startQemuIo } from './running-vm.ts';
import { noise, qemuImg, qemuIo, sharedScratchHome, tool } from './scratch-home.ts';

const MIB = 1 << 20;
const user = sharedScratchHome();
afterAll(async () => {
  // Whatever was kept here must also be good by itself.
  await user.verifyAll();
});

/** The content of an image as qemu-img reads it, backing files included. */
function rawOf(image: string): string {
  const raw = user.path(`${basename(image)}.raw`);
  qemuImg('convert', '-f', 'qcow2', '-O', 'raw', image, raw);
  return raw;
}

const RARE = [
  ['plain', []],
  ['small clusters', ['-o', 'cluster_size=512']],
  ['huge clusters, compressed', ['-c', '-o', 'cluster_size=2M']],
  ['version 2', ['-o', 'compat=0.10']],
] as const;

describe('a QCOW2 source', () => {
  it.for([
    ['zlib', ['-c']],
    ['zstd', ['-c', '-o', 'compression_type=zstd']],
    ['extended L2', ['-o', 'extended_l2=on,cluster_size=128k']],
    ...(process.env.CHAINKEEP_TEST_ALL ? RARE : []),
  ] as const)('%s is read as its disk, again and again', async ([name, options]) => {
    const raw = user.path(`${name}.img`);
    writeFileSync(raw, Buffer.concat([noise(300_000, 1), Buffer.alloc(MIB, 0x61), Buffer.alloc(MIB), noise(500_032, 2)]));
    const image = user.path(`${name}.qcow2`);
    qemuImg('convert', '-f', 'raw', '-O', 'qcow2', ...options, raw, image);
    const first = await user.backup(image, name, '--format', 'qcow2');
    qemuIo(image, 'qcow2', 'write -P 9 1M 70k', 'write -z 0 64k');
    const second = await user.backup(image, name, '--format', 'qcow2');
    expect(second).toMatchObject({ backup_type: 'incremental', parent_backup_id: first.backup_id });
    await user.expectRestores(second.backup_id, rawOf(image));
    expect(qemuImg('compare', '-f', 'qcow2', '-F', 'qcow2', image, user.image(second.backup_id))).toContain('identical');
  });

  it('with a backing chain is refused, and read whole with --with-backing', async () => {
    qemuImg('create', '-f', 'qcow2', user.path('base.qcow2'), '3M');
    qemuIo(user.path('base.qcow2'), 'qcow2', 'write -P 1 0 1M', 'write -P 2 2M 100k');
    qemuImg('create', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', user.path('middle.qcow2'));
    qemuIo(user.path('middle.qcow2'), 'qcow2', 'write -z 512k 128k');
    qemuImg('create', '-f', 'qcow2', '-b', 'middle.qcow2', '-F', 'qcow2', user.path('top.qcow2'), '5M');
    qemuIo(user.path('top.qcow2'), 'qcow2', 'write -P 3 4M 64k');
    const before = user.files();
    const refused = await user.refused('QCOW2_UNSUPPORTED', 'backup', user.path('top.qcow2'), '--vm', 'chain', '--format', 'qcow2');
    expect(refused.error).toContain('middle.qcow2');
    expect(refused.advice).toContain('--with-backing');
    expect(user.files()).toEqual(before);
    const { backup_id: id } = await user.backup(user.path('top.qcow2'), 'chain', '--format', 'qcow2', '--with-backing');
    await user.expectRestores(id, rawOf(user.path('top.qcow2')));
  });

  it('that a VM writes to is refused with advice, also when it is the backing file', async () => {
    const image = user.path('busy.qcow2');
    qemuImg('create', '-f', 'qcow2', image, '2M');
    qemuImg('create', '-f', 'qcow2', '-b', 'busy.qcow2', '-F', 'qcow2', user.path('overlay.qcow2'));
    const vm = await startQemuIo(image, 'qcow2');
    await vm.command('write -P 5 0 64k');
    const before = user.files();
    const refused = await user.refused('SOURCE_INVALID', 'backup', image, '--vm', 'busy', '--format', 'qcow2');
    expect(refused.error).toContain('running VM');
    expect(refused.advice).toContain('snapshot');
    const options = ['--vm', 'busy', '--format', 'qcow2', '--with-backing'];
    await user.refused('SOURCE_INVALID', 'backup', user.path('overlay.qcow2'), ...options);
    expect(user.files()).toEqual(before);
    await vm.stop();
    const { backup_id: id } = await user.backup(image, 'busy', '--format', 'qcow2');
    await user.expectRestores(id, rawOf(image));
  });

  it('is not taken for another file of the same number on another disk', async (context) => {
    const one = mountTmpfs('size=4M');
    const other = mountTmpfs('size=4M');
    if (typeof one === 'string' || typeof other === 'string') return context.skip(String(one));
    try {
      for (const { path } of [one, other]) qemuImg('create', '-f', 'qcow2', `${path}/disk.qcow2`, '1M');
      const vm = await startQemuIo(`${one.path}/disk.qcow2`, 'qcow2');
      await user.refused('SOURCE_INVALID', 'backup', `${one.path}/disk.qcow2`, '--vm', 'twin', '--format', 'qcow2');
      await user.backup(`${other.path}/disk.qcow2`, 'twin', '--format', 'qcow2');
      await vm.stop();
    } finally {
      one.dispose();
      other.dispose();
    }
  });

  it('backed up as raw is kept byte for byte, with a note', async () => {
    const image = user.path('as-raw.qcow2');
    qemuImg('create', '-f', 'qcow2', image, '1M');
    const run = await user.run('backup', image, '--vm', 'as raw');
    expect(run.stderr).toMatch(/^note: .*begins like a QCOW2 image.*--format qcow2$/m);
    const [backup] = await user.list('--vm', 'as raw');
    await user.expectRestores(String(backup?.backup_id), image);
  });

  it('that is none is refused', async () => {
    writeFileSync(user.path('plain.raw'), noise(MIB, 3));
    const before = user.files();
    const refused = await user.refused('SOURCE_INVALID', 'backup', user.path('plain.raw'), '--vm', 'no', '--format', 'qcow2');
    expect(refused.advice).toContain('--format raw');
    // Cut in the middle of its tables.
    qemuImg('convert', '-f', 'raw', '-O', 'qcow2', user.path('plain.raw'), user.path('cut.qcow2'));
    truncateSync(user.path('cut.qcow2'), 100_000);
    await user.refused('SOURCE_INVALID', 'backup', user.path('cut.qcow2'), '--vm', 'no', '--format', 'qcow2');
    rmSync(user.path('cut.qcow2'));
    expect(user.files()).toEqual(before);
  });
});

describe('a block device', () => {
  it('is backed up with its exact size, incrementally, and grown', async (context) => {
    const file = user.path('device.bin');
    writeFileSync(file, Buffer.concat([noise(MIB, 4), Buffer.alloc(2 * MIB)]));
    const device = attachLoop(file);
    if (typeof device === 'string') return context.skip(device);
    try {
      const first = await user.backup(device.path, 'device');
      expect(first).toMatchObject({ backup_type: 'full', total_bytes: 3 * MIB });
      await user.expectRestores(first.backup_id, user.save(file, 'device-1'));
      qemuIo(device.path, 'raw', 'write -P 7 1M 4k');
      tool('blockdev', '--flushbufs', device.path);
      const second = await user.backup(device.path, 'device');
      expect(second).toMatchObject({ backup_type: 'incremental', clusters_written: 1 });
      await user.expectRestores(second.backup_id, user.save(file, 'device-2'));
      appendFileSync(file, noise(MIB / 2, 5));
      device.resize();
      const third = await user.backup(device.path, 'device');
      expect(third).toMatchObject({ backup_type: 'incremental', total_bytes: 3.5 * MIB });
      await user.expectRestores(third.backup_id, file);
      expect(await user.json('show', third.backup_id)).toMatchObject({ source: 'device' });
    } finally {
      device.detach();
    }
  });
});

describe('a disk that changes', () => {
  it('grows: incremental; shrinks: a new full with a note; each point restores with its own size', async () => {
    const disk = user.path('sizes.img');
    const points: [string, string][] = [];
    const take = async (...options: readonly string[]) => {
      const outcome = await user.backup(disk, 'sizes', ...options);
      points.push([outcome.backup_id, user.save(disk, `sizes-${points.length}`)]);
      return outcome;
    };
    writeFileSync(disk, noise(100_001, 1));
    await take();
    appendFileSync(disk, noise(200_000, 2));
    expect(await take()).toMatchObject({ backup_type: 'incremental', total_bytes: 300_001 });
    truncateSync(disk, 900_000);
    expect(await take()).toMatchObject({ backup_type: 'incremental', total_bytes: 900_000, clusters_written: 0 });
    appendFileSync(disk, noise(10, 3));
    expect(await take('--type', 'differential')).toMatchObject({ backup_type: 'differential', total_bytes: 900_010 });
    truncateSync(disk, 200_000);
    const shrunk = await user.run('backup', disk, '--vm', 'sizes', '--type', 'incremental');
    expect(shrunk.code).toBe(0);
    expect(shrunk.stderr).toMatch(/^note: .*the disk shrank from 900010 to 200000 bytes: a new chain starts$/m);
    expect(shrunk.stdout).toContain('full backup');
    points.push([String((await user.list('--vm', 'sizes'))[0]?.backup_id), user.save(disk, 'sizes-4')]);
    truncateSync(disk, 900_000);
    expect(await take()).toMatchObject({ backup_type: 'incremental', total_bytes: 900_000 });
    for (const [id, copy] of points) await user.expectRestores(id, copy);
  });

  it('goes from A to zeros and back to A', async () => {
    const disk = user.path('a-zero-a.img');
    const a = noise(200_000, 8);
    writeFileSync(disk, Buffer.concat([a, Buffer.alloc(300_000)]));
    const points: [string, string][] = [];
    for (const change of [undefined, 'write -P 0 0 200000', 'A']) {
      if (change === 'A') writeFileSync(disk, Buffer.concat([a, Buffer.alloc(300_000)]));
      else if (change) writeFileSync(disk, Buffer.alloc(500_000));
      const { backup_id: id } = await user.backup(disk, 'a-zero-a');
      points.push([id, user.save(disk, `a-${points.length}`)]);
    }
    for (const [id, copy] of points) await user.expectRestores(id, copy);
    const [, zeros, again] = await Promise.all(points.map(([id]) => user.json<{ content_root: string }>('show', id)));
    expect(again?.content_root).not.toBe(zeros?.content_root);
    expect((await user.json<{ content_root: string }>('show', String(points[0]?.[0]))).content_root).toBe(again?.content_root);
  });
});

describe('the size of a disk', () => {
  it.for([0, 1, 511, 513, 65_537])('of %d bytes is kept exactly', async (size) => {
    const disk = user.path(`size-${size}.img`);
    writeFileSync(disk, noise(size, size + 1));
    const { backup_id: id, total_bytes: total } = await user.backup(disk, `size ${size}`);
    expect(total).toBe(size);
    await user.expectRestores(id, disk);
    expect(qemuImg('check', '-f', 'qcow2', user.image(id))).toContain('No errors');
    // QEMU counts in sectors: what is behind the end of the disk is zeros.
    const raw = readFileSync(rawOf(user.image(id)));
    expect(raw.equals(Buffer.concat([readFileSync(disk), Buffer.alloc(raw.length - size)]))).toBe(true);
    expect(raw.length).toBe(Math.ceil(size / 512) * 512);
  });

  it.for(['2M', '512'])('with clusters of %s', async (clusterSize) => {
    const disk = user.path(`clusters-${clusterSize}.img`);
    writeFileSync(disk, Buffer.concat([noise(700_000, 1), Buffer.alloc(3 * MIB), noise(1_000, 2)]));
    const first = await user.backup(disk, clusterSize, '--cluster-size', clusterSize);
    await user.expectRestores(first.backup_id, user.save(disk, `clusters-${clusterSize}-0`));
    qemuIo(disk, 'raw', 'write -P 1 1M 512');
    const second = await user.backup(disk, clusterSize);
    expect(second).toMatchObject({ backup_type: 'incremental', clusters_written: 1 });
    await user.expectRestores(second.backup_id, disk);
    expect(qemuImg('check', '-f', 'qcow2', user.image(second.backup_id))).toContain('No errors');
  });

  it('is refused early where the clusters are too small for it, or no clusters at all', async () => {
    const disk = user.path('large.img');
    writeFileSync(disk, '');
    truncateSync(disk, 2 ** 40);
    const before = user.files();
    for (const [size, code] of [
      ['512', 'DISK_SIZE_INVALID'],
      ['1000', 'DISK_SIZE_INVALID'],
      ['4M', 'DISK_SIZE_INVALID'],
      ['0', 'DISK_SIZE_INVALID'],
      ['1.5k', 'USAGE'],
    ] as const) {
      await user.refused(code, 'backup', disk, '--vm', 'large', '--cluster-size', size);
    }
    expect(user.files()).toEqual(before);
    expect((await user.json<{ vms: { vm_name: string }[] }>('vms')).vms.filter((vm) => vm.vm_name === 'large')).toEqual([]);
    expect(await user.backup(disk, 'large')).toMatchObject({ total_bytes: 2 ** 40, bytes_read: 0 });
    rmSync(disk);
  });
});
