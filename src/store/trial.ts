// A store being tried: the words that behaviours are told in, by the self-test on a user's own storage and by the conformance suite.
// It must not write anywhere but below the folder of the trial.

import { ChainkeepError, isChainkeepError } from '../plumbing/errors.ts';
import type { BlobStore, PutOptions } from './blob-store.ts';

export interface Trial {
  readonly store: BlobStore;
  /** Ends in a slash; nobody else writes there. */
  readonly folder: string;
}

/** In one append, the first `headLength` bytes as its head; a sink whose write failed is aborted. */
export async function writeBlob(store: BlobStore, name: string, bytes: Uint8Array | string, options: PutOptions = {}): Promise<void> {
  const content = Buffer.from(bytes);
  const { headLength = 0 } = options;
  const sink = await store.put(name, options);
  try {
    await sink.append([content.subarray(headLength)]);
    await sink.finish(content.subarray(0, headLength));
  } catch (error) {
    await sink.abort();
    throw error;
  }
}

export async function expectContent(store: BlobStore, name: string, expected: Uint8Array | string): Promise<void> {
  const wanted = Buffer.from(expected);
  const source = await store.open(name);
  try {
    expectThat(source.size === wanted.byteLength, `${name} is ${source.size} bytes long, ${wanted.byteLength} were written`);
    const bytes = new Uint8Array(source.size);
    await source.read(bytes, 0);
    expectThat(Buffer.compare(bytes, wanted) === 0, `${name} reads as other bytes than were written`);
  } finally {
    await source.close();
  }
}

export async function listNames(store: BlobStore, prefix = ''): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of store.list(prefix)) names.push(name);
  return names;
}

/** The code that a call is refused with, of those that are expected; undefined when it was done. Any other error is thrown. */
export async function refusalOf(call: Promise<unknown>, ...expected: readonly string[]): Promise<string | undefined> {
  try {
    await call;
    return undefined;
  } catch (error) {
    if (isChainkeepError(error) && expected.includes(error.code)) return error.code;
    throw error;
  }
}

export function expectThat(condition: boolean, fault: string): asserts condition {
  if (!condition) throw new ChainkeepError('STORE_FAILED', fault, { advice: 'do not keep backups here before this is understood' });
}

/** Bytes of which no two words are the same: no hole, and a shifted range shows. */
export function trialBytes(length: number): Uint8Array {
  const words = new Uint32Array(Math.ceil(length / 4));
  for (let at = 0; at < words.length; at += 1) words[at] = Math.imul(at + 1, 2_654_435_761);
  return new Uint8Array(words.buffer, 0, length);
}
