// Short words for the conformance suite and other store tests: write a blob, read one, what is there.

import { ChainkeepError, isChainkeepError } from '../../plumbing/errors.ts';
import type { BlobStore } from '../blob-store.ts';

export async function readBlob(store: BlobStore, name: string): Promise<Buffer> {
  const source = await store.open(name);
  try {
    const bytes = Buffer.alloc(source.size);
    await source.read(bytes, 0);
    return bytes;
  } finally {
    await source.close();
  }
}

/** Temporaries below `prefix`; nothing is removed. */
export async function listLeftovers(store: BlobStore, prefix = ''): Promise<string[]> {
  const names: string[] = [];
  await store.sweep(prefix, (leftover) => {
    names.push(leftover.name);
    return false;
  });
  return names;
}

/** The code a call fails with; throws when it succeeds or fails with anything but a ChainkeepError. */
export async function codeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    if (isChainkeepError(error)) return error.code;
    throw error;
  }
  throw new ChainkeepError('INTERNAL', 'the call was expected to fail and succeeded');
}

/** Bytes that differ from place to place and from seed to seed: a shifted or swapped run shows. */
export function patternBytes(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed >>> 0;
  for (let at = 0; at < length; at += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}
