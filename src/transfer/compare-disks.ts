// Are two disks the same, byte for byte? Ranges that read as zeros on both sides are not read.

import type { DiskReader } from '../disk/disk-reader.ts';
import type { ByteRange } from '../disk/extent.ts';
import { throwIfCancelled } from '../plumbing/errors.ts';

export interface Comparison {
  readonly identical: boolean;
  /** First byte that differs; absent where only the sizes do. */
  readonly offset?: number;
  readonly sizes: readonly [number, number];
}

const BLOCK_BYTES = 1 << 20;

/** What lies behind the end of the shorter one must be zeros for them to count as the same, as qemu-img sees it. */
export async function compareDisks(a: DiskReader, b: DiskReader, options: { readonly signal?: AbortSignal } = {}): Promise<Comparison> {
  const sizes = [a.size, b.size] as const;
  const end = Math.max(a.size, b.size);
  const left = Buffer.alloc(BLOCK_BYTES);
  const right = Buffer.alloc(BLOCK_BYTES);
  for (let offset = 0; offset < end; offset += RANGE_BYTES) {
    throwIfCancelled(options.signal);
    const length = Math.min(RANGE_BYTES, end - offset);
    const blocks = new Set([...(await dataBlocks(a, { offset, length })), ...(await dataBlocks(b, { offset, length }))]);
    for (const block of [...blocks].sort((x, y) => x - y)) {
      const bytes = Math.min(BLOCK_BYTES, end - block);
      await readPadded(a, left.subarray(0, bytes), block);
      await readPadded(b, right.subarray(0, bytes), block);
      const at = firstDifference(left.subarray(0, bytes), right.subarray(0, bytes));
      if (at >= 0) return { identical: false, offset: block + at, sizes };
    }
  }
  return { identical: true, sizes };
}

const RANGE_BYTES = 512 * BLOCK_BYTES;

/** Offsets of the blocks in which a disk has data. */
async function dataBlocks(disk: DiskReader, range: ByteRange): Promise<Set<number>> {
  const blocks = new Set<number>();
  const length = Math.min(range.length, disk.size - range.offset);
  if (length <= 0) return blocks;
  for await (const extent of disk.extents({ offset: range.offset, length })) {
    if (extent.kind !== 'data') continue;
    const first = Math.floor(extent.offset / BLOCK_BYTES);
    const last = Math.floor((extent.offset + extent.length - 1) / BLOCK_BYTES);
    for (let block = first; block <= last; block++) blocks.add(block * BLOCK_BYTES);
  }
  return blocks;
}

async function readPadded(disk: DiskReader, buffer: Buffer, offset: number): Promise<void> {
  const inside = Math.max(0, Math.min(buffer.length, disk.size - offset));
  if (inside > 0) await disk.read(buffer.subarray(0, inside), offset);
  buffer.fill(0, inside);
}

function firstDifference(a: Buffer, b: Buffer): number {
  if (a.equals(b)) return -1;
  for (let at = 0; at < a.length; at++) if (a[at] !== b[at]) return at;
  return -1;
}
