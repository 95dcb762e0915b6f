// An image in memory with three clusters of data, opened; and what goes wrong with it.

import type { Extent } from '../../src/disk/extent.ts';
import { isChainkeepError } from '../../src/plumbing/errors.ts';
import { type OpenOptions, openQcow2, type Qcow2Image } from '../../src/qcow2/image.ts';
import { writeStandardEntry } from '../../src/qcow2/l2-entry.ts';
import { CLUSTER, type Crafted, craftImage, PLACE } from './crafted-image.ts';
import { memorySource } from './memory-source.ts';
import { noise } from './qemu-tools.ts';

export const DISK = 4 * 1024 ** 2;
export const DATA = PLACE.data * CLUSTER;

/** Clusters 0 and 2 of the disk hold data; the test breaks cluster 1. */
export function imageWithData(fields: Parameters<typeof craftImage>[0] = {}): Crafted {
  const image = craftImage(fields, 3);
  noise(CLUSTER, 1).copy(image.bytes, DATA);
  noise(CLUSTER, 2).copy(image.bytes, DATA + CLUSTER);
  noise(CLUSTER, 3).copy(image.bytes, DATA + 2 * CLUSTER);
  writeStandardEntry(image.l2, 0, DATA);
  writeStandardEntry(image.l2, 1, DATA + CLUSTER);
  writeStandardEntry(image.l2, 2, DATA + 2 * CLUSTER);
  return image;
}

export async function readCluster(image: Qcow2Image, cluster: number, length = CLUSTER): Promise<Buffer> {
  const buffer = Buffer.alloc(length, 0xee);
  await image.read(buffer, cluster * CLUSTER);
  return buffer;
}

export function extents(image: Qcow2Image, offset = 0, length = image.size - offset): Promise<Extent[]> {
  return Array.fromAsync(image.extents({ offset, length }));
}

export async function open(bytes: Uint8Array, options: OpenOptions = {}): Promise<Qcow2Image> {
  return openQcow2(memorySource(bytes), options);
}

export async function failure(promise: Promise<unknown>): Promise<{ code: string; message: string; context: Record<string, unknown> }> {
  try {
    await promise;
  } catch (error) {
    if (isChainkeepError(error)) return { code: error.code, message: error.message, context: { ...error.context } };
    throw error;
  }
  throw new Error('nothing failed');
}
