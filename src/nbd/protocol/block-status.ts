// What BLOCK_STATUS answers for one context: how long the next stretches of the export are, and which flags each has.

import { readU64, writeU64 } from '../../plumbing/big-endian.ts';
import { protocolBreach } from './breach.ts';
import { dataView } from './view.ts';

/**
 * BLOCK_STATUS:                      BLOCK_STATUS_EXT, only with extended headers:
 *   0  u32  number of the context      0  u32  number of the context
 *   4       descriptors of 8 bytes:    4  u32  number of descriptors
 *           u32 length, u32 flags      8       descriptors of 16 bytes: u64 length, u64 flags
 */
const HEAD = 4;
const DESCRIPTOR = 8;
const EXTENDED_HEAD = 8;
const EXTENDED_DESCRIPTOR = 16;

/** "Servers SHOULD NOT send more than 2^20 extents in a single reply chunk": the most memory a reply can take. */
const MOST_DESCRIPTORS = 2 ** 20;

export function mostStatusBytes(extended: boolean): number {
  return extended ? EXTENDED_HEAD + EXTENDED_DESCRIPTOR * MOST_DESCRIPTORS : HEAD + DESCRIPTOR * MOST_DESCRIPTORS;
}

export interface StatusDescriptor {
  /** Bytes, above zero. */
  readonly length: number;
  /** Of a context that has more than 53 bits: Infinity where they are used. */
  readonly flags: number;
}

export interface BlockStatus {
  readonly context: number;
  readonly descriptors: readonly StatusDescriptor[];
}

/** In the compact form lengths and flags have 32 bits; the caller keeps to that. */
export function encodeBlockStatus({ context, descriptors }: BlockStatus, extended: boolean): Buffer {
  const [head, size] = extended ? [EXTENDED_HEAD, EXTENDED_DESCRIPTOR] : [HEAD, DESCRIPTOR];
  const bytes = Buffer.alloc(head + size * descriptors.length);
  const view = dataView(bytes);
  view.setUint32(0, context);
  if (extended) view.setUint32(4, descriptors.length);
  for (const [index, { length, flags }] of descriptors.entries()) {
    const at = head + size * index;
    if (extended) {
      writeU64(view, at, length);
      writeU64(view, at + 8, flags);
    } else {
      view.setUint32(at, length);
      view.setUint32(at + 4, flags);
    }
  }
  return bytes;
}

/** Throws NBD_PROTOCOL for a length that does not fit, no descriptor at all, and an empty one: nobody gets ahead with those. */
export function parseBlockStatus(payload: Uint8Array, extended: boolean): BlockStatus {
  const [head, size] = extended ? [EXTENDED_HEAD, EXTENDED_DESCRIPTOR] : [HEAD, DESCRIPTOR];
  const count = (payload.length - head) / size;
  if (!Number.isInteger(count) || count < 1) throw protocolBreach(`a block status of ${payload.length} bytes`, { length: payload.length });
  const view = dataView(payload);
  if (extended && view.getUint32(4) !== count)
    throw protocolBreach(`a block status says ${view.getUint32(4)} descriptors and has ${count}`, { count });
  const descriptors = Array.from({ length: count }, (_, index) => {
    const at = head + size * index;
    const length = extended ? readU64(view, at) : view.getUint32(at);
    if (length === 0) throw protocolBreach('a block status with a descriptor of 0 bytes', { index });
    return { length, flags: extended ? readU64(view, at + 8) : view.getUint32(at + 4) };
  });
  return { context: view.getUint32(0), descriptors };
}
