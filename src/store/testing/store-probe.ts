// Short words for the conformance suite and other store tests: write a blob, read one, what is there.

import { ChainkeepError, isChainkeepError } from '../../plumbing/errors.ts';
import type { BlobStore, PutOptions } from '../blob-store.ts';

/** Puts a blob in one append, the first `headLength` bytes as its head; a sink whose write failed is aborted. */
export async function writeBlob(store: BlobStore, name: string, content: Uint8Array | string, options: PutOptions = {}): Promise<void> {
  const bytes = Buffer.from(content);
  const headLength = options.headLength ?? 0;
  const sink = await store.put(name, options);
  try {
    await sink.append([bytes.subarray(headLength)]);
    await sink.finish(bytes.subarray(0, headLength));
  } catch (error) {
    await sink.abort();
    throw error;
  }
}

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

export async function listNames(store: BlobStore, prefix = ''): Promise<string[]> {
  const names: string[] = [];
  for await (const blob of store.list(prefix)) names.push(blob.name);
  return names;
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
