// Compares what the library says of an image that qemu made with what qemu says of it.

import { expect } from 'vitest';
import type { DiskReader } from '../../src/disk/disk-reader.ts';
import type { Extent } from '../../src/disk/extent.ts';
import { openFileSource } from '../../src/plumbing/file-source.ts';
import { checkReportFields } from '../../src/qcow2/check-report.ts';
import { checkImage } from '../../src/qcow2/checker.ts';
import { createClusterCodec } from '../../src/qcow2/cluster-codec.ts';
import { type OpenOptions, openQcow2, type Qcow2Image } from '../../src/qcow2/image.ts';
import { readImageInfo } from '../../src/qcow2/image-info.ts';
import { type MapEntry, mapImage } from '../../src/qcow2/image-map.ts';
import { numbers, qemuCheck, qemuImg } from './qemu-tools.ts';

export async function openImage(path: string, options: OpenOptions = {}): Promise<Qcow2Image> {
  return openQcow2(await openFileSource(path), options);
}

export async function readAll(disk: DiskReader): Promise<Buffer> {
  const bytes = Buffer.alloc(disk.size, 0xee);
  await disk.read(bytes, 0);
  return bytes;
}

export async function listExtents(disk: DiskReader, offset = 0, length = disk.size - offset): Promise<Extent[]> {
  return Array.fromAsync(disk.extents({ offset, length }));
}

/** Reads the disk the way a worker does: by its extents and the places they name. */
export async function readByExtents(disk: DiskReader): Promise<Buffer> {
  const bytes = Buffer.alloc(disk.size, 0xee);
  const codec = createClusterCodec();
  let at = 0;
  for await (const { offset, length, kind, stored } of disk.extents({ offset: 0, length: disk.size })) {
    expect(offset).toBe(at);
    expect(length).toBeGreaterThan(0);
    at += length;
    const part = bytes.subarray(offset, offset + length);
    if (kind !== 'data') part.fill(0);
    else if (!stored) await disk.read(part, offset);
    else if (stored.compression === 'none') {
      expect(stored.length).toBe(length);
      await stored.source.read(part, stored.offset);
    } else {
      const compressed = new Uint8Array(stored.length);
      await stored.source.read(compressed, stored.offset);
      const cluster = new Uint8Array(stored.expandedLength ?? 0);
      codec.decompress(stored.compression, compressed, cluster);
      part.set(cluster.subarray(0, length));
    }
  }
  expect(at).toBe(disk.size);
  codec.close();
  return bytes;
}

/** The whole disk, at once, by extents, and in pieces at odd places. */
export async function expectContent(disk: DiskReader, truth: Buffer): Promise<void> {
  expect(disk.size).toBe(truth.length);
  expect((await readAll(disk)).equals(truth)).toBe(true);
  expect((await readByExtents(disk)).equals(truth)).toBe(true);
  const next = numbers(truth.length);
  for (let number = 0; number < 20 && truth.length > 0; number += 1) {
    const offset = next(truth.length);
    const length = next(Math.min(truth.length - offset, 300_000)) + 1;
    const piece = Buffer.alloc(length, 0xee);
    await disk.read(piece, offset);
    expect(piece.equals(truth.subarray(offset, offset + length))).toBe(true);
    const extents = await listExtents(disk, offset, length);
    expect(extents[0]?.offset).toBe(offset);
    expect(extents.reduce((end, extent) => (extent.offset === end ? end + extent.length : Number.NaN), offset)).toBe(offset + length);
  }
}

/** `info` and `check` say what qemu-img says, word for word. */
export async function expectSameReports(path: string): Promise<void> {
  const source = await openFileSource(path);
  try {
    const { warnings, ...info } = await readImageInfo(source);
    expect(warnings).toBeInstanceOf(Array);
    expect(info).toEqual(JSON.parse(qemuImg('info', '--output=json', '-f', 'qcow2', path)));
    const judged = qemuCheck(path);
    expect(judged.code).toBe(0);
    expect(checkReportFields(await checkImage(source, { windowClusters: 100 }))).toEqual(judged.report);
    expect(checkReportFields(await checkImage(source))).toEqual(judged.report);
  } finally {
    await source.close();
  }
}

/** `map` says what qemu-img says; version 7.2 does not print whether data are compressed, nor does ours look for holes in the file. */
export async function expectSameMap(path: string, layers: readonly DiskReader[]): Promise<void> {
  const judged: MapEntry[] = JSON.parse(qemuImg('map', '--output=json', '-f', 'qcow2', path));
  const found = await Array.fromAsync(mapImage(layers));
  expect(found.map(({ compressed, ...entry }) => entry)).toEqual(judged.map(({ compressed, ...entry }) => entry));
}
