// Small blobs read and written whole.

import { type ChainkeepError, isChainkeepError } from '../plumbing/errors.ts';
import type { BlobStore, PutOptions } from '../store/blob-store.ts';

export interface BlobLimit {
  readonly mostBytes: number;
  /** The error for a larger one: whatever it is, it is not what is looked for. */
  readonly refuse: (what: string) => ChainkeepError;
}

/** The whole blob, or undefined where there is none. */
export async function readBlob(store: BlobStore, name: string, { mostBytes, refuse }: BlobLimit): Promise<Uint8Array | undefined> {
  try {
    const source = await store.open(name);
    try {
      if (source.size > mostBytes) throw refuse(`it has ${source.size} bytes, at most ${mostBytes} make sense`);
      const bytes = new Uint8Array(source.size);
      await source.read(bytes, 0);
      return bytes;
    } finally {
      await source.close();
    }
  } catch (error) {
    if (isChainkeepError(error, 'BLOB_NOT_FOUND')) return undefined;
    throw error;
  }
}

export async function writeBlob(store: BlobStore, name: string, bytes: Uint8Array, options: PutOptions): Promise<void> {
  const sink = await store.put(name, { ...options, expectedSize: bytes.length });
  try {
    await sink.append([bytes]);
    await sink.finish(new Uint8Array(0));
  } catch (error) {
    await sink.abort();
    throw error;
  }
}
