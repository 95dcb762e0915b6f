// What backups need of a store, as one list: the self-test tries it on a user's own storage, the conformance suite on every store and wrapper.
// It must be quick and small, for it runs when a repository is added; what needs threads, processes or thousands of blobs is the suite's alone.

import { systemClock } from '../plumbing/clock.ts';
import type { BlobStore } from './blob-store.ts';
import { expectContent, expectThat, listNames, refusalOf, type Trial, trialBytes, writeBlob } from './trial.ts';

export type BehaviourGroup = 'write' | 'read back' | 'list' | 'replace' | 'create only' | 'delete' | 'retention';

export interface Behaviour {
  readonly group: BehaviourGroup;
  /** What the store does, as a sentence. */
  readonly name: string;
  /** Throws when it does not. Uses names of its own. */
  run(trial: Trial): Promise<void>;
  /** Left out for stores that do not claim it. */
  readonly appliesTo?: (store: BlobStore) => boolean;
}

/** The shortest protection that shows: behind the difference of two clocks, and over before anybody minds. */
export const TRIAL_RETENTION_MS = 60_000;

const RANGES = [
  [0, 1],
  [0, 100_000],
  [99_999, 1],
  [4095, 2],
  [65_536, 20_000],
  [50_001, 7],
] as const;

export const BEHAVIOURS: readonly Behaviour[] = [
  { group: 'write', name: 'a blob is not there before it is finished, and of its size after it', run: writesAtOnce },
  { group: 'read back', name: 'any range reads as it was written, the head in front, also several at once', run: readsRanges },
  { group: 'list', name: 'a listing is sorted and has exactly what begins with the prefix', run: lists },
  { group: 'replace', name: 'a blob is replaced by another one', run: replaces },
  { group: 'replace', name: 'what is open keeps its bytes while it is replaced, or says that it changed', run: keepsOpened },
  { group: 'create only', name: 'a name that is taken is refused and keeps its content, one that is free is not', run: createsOnly },
  {
    group: 'create only',
    name: 'of two writers that finish at once one wins',
    run: hasOneWinner,
    appliesTo: ({ capabilities }) => capabilities.createOnly,
  },
  { group: 'delete', name: 'what is deleted is gone, and deleting it again is no error', run: deletes },
  {
    group: 'retention',
    name: 'what is protected is neither deleted nor replaced, and can be read',
    run: protects,
    appliesTo: ({ capabilities }) => capabilities.retention !== 'none',
  },
];

/** Those of a group that the store claims; asked one by one, because some stores know what they can only when it was tried. */
export async function behave(trial: Trial, group: BehaviourGroup): Promise<void> {
  for (const behaviour of BEHAVIOURS) {
    if (behaviour.group === group && (behaviour.appliesTo?.(trial.store) ?? true)) await behaviour.run(trial);
  }
}

async function writesAtOnce({ store, folder }: Trial): Promise<void> {
  const name = `${folder}written`;
  const sink = await store.put(name, { headLength: 5 });
  try {
    await sink.append([Buffer.from('and the rest')]);
    expectThat((await store.stat(name)) === undefined, 'a blob that is not finished can be seen');
    await sink.finish(Buffer.from('head '));
  } catch (error) {
    await sink.abort();
    throw error;
  }
  expectThat((await store.stat(name))?.size === 17, 'a finished blob is not there, or not of its size');
}

async function readsRanges({ store, folder }: Trial): Promise<void> {
  const name = `${folder}ranges`;
  const bytes = trialBytes(100_000);
  await writeBlob(store, name, bytes, { headLength: 1000 });
  const source = await store.open(name);
  try {
    await Promise.all(
      RANGES.map(async ([offset, length]) => {
        const part = new Uint8Array(length);
        await source.read(part, offset);
        const same = Buffer.compare(part, bytes.subarray(offset, offset + length)) === 0;
        expectThat(same, `${length} bytes at ${offset} of a blob read wrong`);
      }),
    );
  } finally {
    await source.close();
  }
}

async function lists({ store, folder }: Trial): Promise<void> {
  for (const name of ['list/b', 'list/a/c', 'list-2']) await writeBlob(store, `${folder}${name}`, name);
  const found = await listNames(store, `${folder}list/`);
  expectThat(found.join(' ') === `${folder}list/a/c ${folder}list/b`, `the listing is wrong: ${found.join(' ') || 'empty'}`);
}

async function replaces({ store, folder }: Trial): Promise<void> {
  await writeBlob(store, `${folder}replaced`, 'first');
  await writeBlob(store, `${folder}replaced`, 'second');
  await expectContent(store, `${folder}replaced`, 'second');
}

async function keepsOpened({ store, folder }: Trial): Promise<void> {
  const name = `${folder}opened`;
  await writeBlob(store, name, 'before');
  const source = await store.open(name);
  try {
    // A file server may refuse to replace what somebody has open.
    await refusalOf(writeBlob(store, name, 'behind'), 'BLOB_IN_USE');
    const bytes = new Uint8Array(6);
    if ((await refusalOf(source.read(bytes, 0), 'BLOB_CHANGED')) !== undefined) return;
    expectThat(Buffer.from(bytes).toString() === 'before', 'an open blob reads as what replaced it, without a word');
  } finally {
    await source.close();
  }
}

async function createsOnly({ store, folder }: Trial): Promise<void> {
  const name = `${folder}created`;
  await writeBlob(store, name, 'first', { ifAbsent: true });
  const refused = await refusalOf(writeBlob(store, name, 'second', { ifAbsent: true }), 'BLOB_EXISTS');
  expectThat(refused !== undefined, 'a blob that may only be created was replaced: two writers could overwrite each other');
  await expectContent(store, name, 'first');
}

async function hasOneWinner({ store, folder }: Trial): Promise<void> {
  const name = `${folder}raced`;
  const race = (content: string) => refusalOf(writeBlob(store, name, content, { ifAbsent: true }), 'BLOB_EXISTS');
  // Both to their end, also when one fails: what is still at work would write behind the clean-up.
  const ends = await Promise.allSettled([race('left'), race('right')]);
  const [left, right] = ends.map((end) => {
    if (end.status === 'rejected') throw end.reason;
    return end.value;
  });
  const winners = [left, right].filter((refused) => refused === undefined).length;
  expectThat(winners === 1, `of two writers that created a blob at once, ${winners} were told that they did`);
  await expectContent(store, name, left === undefined ? 'left' : 'right');
}

async function deletes({ store, folder }: Trial): Promise<void> {
  const name = `${folder}deleted`;
  await writeBlob(store, name, 'gone');
  await store.delete(name);
  expectThat((await store.stat(name)) === undefined, 'a deleted blob is still there');
  await store.delete(name);
}

/** By the clock of the store, where it has one: by ours the date may be over before it begins. */
async function protects({ store, folder }: Trial): Promise<void> {
  const name = `${folder}protected`;
  await writeBlob(store, name, 'kept');
  await store.protect(name, { until: ((await store.now()) ?? systemClock.now()) + TRIAL_RETENTION_MS });
  const codes = ['IMMUTABLE_RETENTION_ACTIVE', 'HOLD_ACTIVE'];
  expectThat((await refusalOf(store.delete(name), ...codes)) !== undefined, 'a protected blob was deleted');
  expectThat((await refusalOf(writeBlob(store, name, 'other'), ...codes)) !== undefined, 'a protected blob was replaced');
  expectThat((await store.protectionOf(name)) !== undefined, 'the store does not know of the protection of a blob');
  await expectContent(store, name, 'kept');
}
