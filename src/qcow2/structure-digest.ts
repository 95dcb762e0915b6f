// One digest over everything in an image that is not guest data: the head, the L2 tables in the order of the disk and the
// refcount blocks in the order of the file. Guest data has digests of its own; bytes that are neither are zero.

import type { Blake3 } from '../plumbing/blake3.ts';

export interface StructureParts {
  /** Header, L1 table and refcount table: the first bytes of the file up to the first appended cluster. */
  readonly head: Uint8Array;
  /** Digest over all L2 tables. */
  readonly l2: Uint8Array;
  /** Digest over all refcount blocks. */
  readonly refcounts: Uint8Array;
}

export function structureDigest(blake3: Blake3, parts: StructureParts): Uint8Array {
  const whole = blake3.create();
  whole.update(blake3.hash(parts.head));
  whole.update(parts.l2);
  whole.update(parts.refcounts);
  return whole.digest();
}
