// What a repository's process is asked, and what it answers: plain data, one line of JSON each. Both ends are of the same version, always.

import type { BlobInfo, BlobProtection, Leftover, PutOptions, StoreCapabilities, StoreCapacity } from '../blob-store.ts';
import type { MountPlan } from './mount-plan.ts';

/** Sources, sinks and listings are known by numbers that the asking side gives. */
export type StorageRequest =
  | { readonly op: 'hello' }
  | { readonly op: 'start'; readonly plan: MountPlan; readonly password?: string; readonly create: boolean; readonly limit: number }
  | { readonly op: 'list'; readonly listing: number; readonly prefix: string }
  | { readonly op: 'more'; readonly listing: number }
  | { readonly op: 'leave'; readonly listing: number }
  | { readonly op: 'stat'; readonly name: string }
  | { readonly op: 'open'; readonly source: number; readonly name: string }
  | { readonly op: 'read'; readonly source: number; readonly offset: number; readonly length: number }
  | { readonly op: 'release'; readonly source: number }
  | { readonly op: 'put'; readonly sink: number; readonly name: string; readonly options: PutOptions }
  | { readonly op: 'write'; readonly sink: number; readonly offset: number }
  | { readonly op: 'flush'; readonly sink: number }
  | { readonly op: 'finish'; readonly sink: number; readonly claimed: number }
  | { readonly op: 'abort'; readonly sink: number }
  | { readonly op: 'delete'; readonly name: string }
  | { readonly op: 'protect'; readonly name: string; readonly protection: BlobProtection }
  | { readonly op: 'protection'; readonly name: string }
  | { readonly op: 'unprotect'; readonly name: string }
  | { readonly op: 'leftovers'; readonly prefix: string }
  | { readonly op: 'sweep'; readonly prefix: string; readonly dead: readonly Leftover[] }
  | { readonly op: 'capacity' }
  | { readonly op: 'stop' };

export type Operation = StorageRequest['op'];

/** Blobs of a listing, and whether there are more. */
export interface Page {
  readonly blobs: readonly BlobInfo[];
  readonly ended: boolean;
}

export interface Answers {
  readonly hello: null;
  readonly start: { readonly capabilities: StoreCapabilities; readonly madeMountPoint: boolean };
  readonly list: Page;
  readonly more: Page;
  readonly leave: null;
  readonly stat: BlobInfo | null;
  readonly open: { readonly size: number };
  readonly read: null;
  readonly release: null;
  readonly put: null;
  readonly write: null;
  readonly flush: null;
  readonly finish: { readonly size: number };
  readonly abort: null;
  readonly delete: null;
  readonly protect: null;
  readonly protection: BlobProtection | null;
  readonly unprotect: null;
  readonly leftovers: readonly Leftover[];
  readonly sweep: readonly Leftover[];
  readonly capacity: StoreCapacity | null;
  readonly stop: null;
}

/** An error on its way: what a ChainkeepError is made of, and the words of its cause. */
export interface SentError {
  readonly code: string;
  readonly message: string;
  readonly advice?: string | undefined;
  readonly context: Readonly<Record<string, unknown>>;
  readonly retryable: boolean;
  readonly cause?: string | undefined;
}

/** The answer to an operation; `error` instead of `value` where it failed. */
export interface Reply<Op extends Operation> {
  readonly value: Answers[Op];
  readonly error?: SentError;
}
