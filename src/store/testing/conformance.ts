// What every store must do, as one list for vitest; each kind of store and each wrapper runs it.
// The groups are in files beside this one, so that each is short enough to be read as the contract.

import { afterEach, beforeEach, describe } from 'vitest';
import type { BlobStore } from '../blob-store.ts';
import { sharedBehaviours } from './conformance-behaviours.ts';
import { createOnlyBehaviours } from './conformance-create-only.ts';
import { namingBehaviours } from './conformance-naming.ts';
import { protectionBehaviours } from './conformance-protection.ts';
import { readingBehaviours } from './conformance-reading.ts';
import { writingBehaviours } from './conformance-writing.ts';

export interface StoreUnderTest {
  /** Empty at the start of each test. */
  readonly store: BlobStore;
  /** How another process opens the same place; absent for a wrapper that lives in one process. */
  readonly elsewhere?: { readonly type: string; readonly config: unknown };
  /** Bytes of an append that surely leave something in the store before `finish`; default: any. Object stores keep small blobs in memory until then. */
  readonly leftoverBytes?: number;
  /** A test server that keeps parts behind an upload that was swept, which the real service does not. */
  readonly keepsSweptParts?: boolean;
  /** Puts a file there past the store, as other programs do; with a slash at the end a folder. Absent where nobody else can. */
  readonly putForeign?: (name: string) => Promise<void>;
  /** Its server refuses to replace or delete a blob that somebody has open, as some file servers do. */
  readonly refusesOpen?: 'replace' | 'replace and delete';
  /** Blobs of the longest listing, where the usual number takes too long. */
  readonly many?: number;
  /** Also with protected blobs in it. */
  dispose(): Promise<void>;
}

/** Gives the store of the running test. */
export type Subject = () => StoreUnderTest;

export function storeConformance(name: string, makeStore: () => Promise<StoreUnderTest>): void {
  describe(`store conformance: ${name}`, () => {
    let current: StoreUnderTest | undefined;
    const subject: Subject = () => {
      if (!current) throw new Error('a store is only there inside a test');
      return current;
    };
    beforeEach(async () => {
      current = await makeStore();
    });
    afterEach(async () => {
      await current?.store.close();
      await current?.dispose();
    });
    describe('what the self-test tries', () => sharedBehaviours(subject));
    describe('writing', () => writingBehaviours(subject));
    describe('create only and replace', () => createOnlyBehaviours(subject));
    describe('reading', () => readingBehaviours(subject));
    describe('names, listing, deleting', () => namingBehaviours(subject));
    describe('protection', () => protectionBehaviours(subject));
  });
}
