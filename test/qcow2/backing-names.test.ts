// A backing name is data: it is compared with the expected one, and never opened.

import { describe, expect, it } from 'vitest';
import { writeZeroEntry } from '../../src/qcow2/l2-entry.ts';
import { CLUSTER, craftImage } from './crafted-image.ts';
import { DISK, extents, failure, imageWithData, open, readCluster } from './opened-image.ts';
import { noise } from './qemu-tools.ts';

const HOSTILE_NAMES = [
  '/etc/passwd',
  '/etc/hostname',
  '/dev/sda',
  '/proc/self/environ',
  '../../etc/passwd',
  '..',
  '.',
  'file:/etc/passwd',
  'file:///etc/passwd',
  'json:{"driver":"raw","file":{"driver":"file","filename":"/etc/passwd"}}',
  'json:{"driver":"host_device","filename":"/dev/sda"}',
  'nbd://127.0.0.1/export',
  'nbd:unix:/tmp/socket',
  'http://169.254.169.254/latest/meta-data',
  'ssh://root@localhost/etc/shadow',
  'fat:/etc',
  'blkdebug::/etc/passwd',
  'null-co://',
  'rbd:pool/image',
  'parent.qcow2',
  'a\0b',
  '\u202egnp.exe',
  ' ',
  '~',
  '$(reboot)',
];

describe('a backing name in an image', () => {
  it.each(HOSTILE_NAMES)('%j is never opened', async (name) => {
    const { bytes } = craftImage({ backing: { name, format: 'raw' } });
    expect(await failure(open(bytes))).toMatchObject({ code: 'QCOW2_UNSUPPORTED' });
    const layer = await open(bytes, { layer: true });
    expect(layer.header.backing?.name).toBe(name);
    expect(await extents(layer)).toEqual([{ offset: 0, length: DISK, kind: 'absent' }]);
  });

  it('must be the expected one', async () => {
    const child = craftImage({ backing: { name: 'parent.qcow2', format: 'qcow2' } }).bytes;
    const full = craftImage().bytes;
    expect((await open(child, { expectedBackingName: 'parent.qcow2' })).size).toBe(DISK);
    expect((await open(full, { expectedBackingName: null })).size).toBe(DISK);
    expect((await failure(open(child, { expectedBackingName: 'other.qcow2' }))).message).toMatch(
      /names "parent.qcow2" .* expected is "other.qcow2"/,
    );
    expect((await failure(open(child, { expectedBackingName: null }))).message).toMatch(/expected is nothing/);
    expect((await failure(open(full, { expectedBackingName: 'parent.qcow2' }))).message).toMatch(/names nothing/);
  });

  it('must be there when a disk is laid below', async () => {
    const below = await open(imageWithData().bytes);
    expect((await failure(open(craftImage().bytes, { backing: below }))).message).toMatch(/no backing file/);
    const child = craftImage({ backing: { name: 'parent.qcow2', format: 'qcow2' } });
    writeZeroEntry(child.l2, 2);
    const disk = await open(child.bytes, { backing: below });
    expect((await readCluster(disk, 1)).equals(noise(CLUSTER, 2))).toBe(true);
    expect((await readCluster(disk, 2)).equals(Buffer.alloc(CLUSTER))).toBe(true);
    expect(await Array.fromAsync(disk.mapping({ offset: 0, length: CLUSTER }))).toMatchObject([{ kind: 'unallocated' }]);
  });
});
