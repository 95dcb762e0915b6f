// Conformance of stores: a protected blob stays as it is until what protects it is over, and can be read all the time.

import { expect, it } from 'vitest';
import { isChainkeepError } from '../../plumbing/errors.ts';
import type { BlobStore } from '../blob-store.ts';
import { listNames, writeBlob } from '../trial.ts';
import type { Subject } from './conformance.ts';
import { codeOf, listLeftovers, readBlob } from './store-probe.ts';

const DAY = 24 * 3600_000;
// Some stores keep whole seconds, and a date may be rounded up by them, never down.
const SECOND = 1000;
const REFUSALS: readonly string[] = ['IMMUTABLE_RETENTION_ACTIVE', 'HOLD_ACTIVE'];

/** The protection of a store that keeps dates; undefined where it cannot protect, or only by a mark. */
function keepsDates({ capabilities }: BlobStore): boolean {
  return capabilities.retention !== 'none' && capabilities.retentionMark === undefined;
}

async function expectRefused(store: BlobStore, name: string, content: string): Promise<void> {
  expect(REFUSALS, 'delete').toContain(await codeOf(store.delete(name)));
  expect(REFUSALS, 'replace').toContain(await codeOf(writeBlob(store, name, 'other')));
  expect(await codeOf(writeBlob(store, name, 'other', { ifAbsent: true }))).toBe('BLOB_EXISTS');
  expect((await readBlob(store, name)).toString()).toBe(content);
  expect(await listNames(store)).toContain(name);
  expect(await listLeftovers(store)).toEqual([]);
}

export function protectionBehaviours(subject: Subject): void {
  it('the store tells the time of its own clock where it has one', async () => {
    const { store } = subject();
    const now = await store.now();
    expect(now !== undefined).toBe(store.capabilities.clock);
    if (now !== undefined) expect(Math.abs(now - Date.now())).toBeLessThan(3_600_000);
  });

  it('what nobody protected is not protected, and release of it changes nothing', async () => {
    const { store } = subject();
    await writeBlob(store, 'a', 'one');
    if (store.capabilities.retention === 'none') {
      expect(await codeOf(store.protect('a', { until: Date.now() + DAY }))).toBe('NOT_SUPPORTED');
      expect(await store.protectionOf('a')).toBeUndefined();
      return;
    }
    expect(await store.protectionOf('a')).toBeUndefined();
    await store.release('a');
    await store.release('gone');
    await writeBlob(store, 'a', 'two');
    await store.delete('a');
    expect(await listNames(store)).toEqual([]);
  });

  it('what is not there cannot be protected', async ({ skip }) => {
    const { store } = subject();
    if (store.capabilities.retention === 'none') return skip('this store protects nothing');
    await writeBlob(store, 'a/b', 'x');
    for (const name of ['a', 'b', 'a/c', 'x/y']) {
      expect(await codeOf(store.protect(name, { until: Date.now() + DAY })), name).toBe('BLOB_NOT_FOUND');
      expect(await codeOf(store.protectionOf(name)), name).toBe('BLOB_NOT_FOUND');
    }
  });

  it('a blob with a date is neither deleted nor replaced, and reads as before', async ({ skip }) => {
    const { store } = subject();
    if (store.capabilities.retention === 'none') return skip('this store protects nothing');
    await writeBlob(store, 'folder/a', 'kept');
    await writeBlob(store, 'folder/b', 'free');
    const until = Date.now() + DAY;
    await store.protect('folder/a', { until });
    await expectRefused(store, 'folder/a', 'kept');
    const found = await store.protectionOf('folder/a');
    expect(found).toBeDefined();
    if (keepsDates(store)) {
      expect(found?.until).toBeGreaterThanOrEqual(until);
      expect(found?.until).toBeLessThanOrEqual(until + SECOND);
      const refusal: unknown = await store.delete('folder/a').catch((error: unknown) => error);
      expect(isChainkeepError(refusal) && refusal.context.retention_expires_at).toBe(new Date(found?.until ?? 0).toISOString());
    }
    await store.delete('folder/b');
    await writeBlob(store, 'folder/c', 'new', { ifAbsent: true });
    expect(await listNames(store)).toEqual(['folder/a', 'folder/c']);
  });

  it('a date is extended and never shortened', async ({ skip }) => {
    const { store } = subject();
    if (!keepsDates(store)) return skip('this store keeps no dates');
    await writeBlob(store, 'a', 'kept');
    const until = Date.now() + DAY;
    await store.protect('a', { until });
    await store.protect('a', { until: until - DAY / 2 });
    expect((await store.protectionOf('a'))?.until).toBeGreaterThanOrEqual(until);
    await store.protect('a', { until: until + DAY });
    expect((await store.protectionOf('a'))?.until).toBeGreaterThanOrEqual(until + DAY);
    await store.release('a');
    await expectRefused(store, 'a', 'kept');
  });

  it('a date that is over protects nothing, and is no fault', async ({ skip }) => {
    const { store } = subject();
    if (!keepsDates(store)) return skip('this store keeps no dates');
    await writeBlob(store, 'a', 'x');
    await store.protect('a', { until: Date.now() - DAY });
    expect(await store.protectionOf('a')).toBeUndefined();
    await store.delete('a');
  });

  it('a hold holds without a date until it is lifted', async ({ skip }) => {
    const { store } = subject();
    if (store.capabilities.retention === 'none') return skip('this store protects nothing');
    await writeBlob(store, 'a', 'kept');
    await store.protect('a', { hold: true });
    await store.protect('a', { hold: true });
    await expectRefused(store, 'a', 'kept');
    if (keepsDates(store)) {
      expect((await store.protectionOf('a'))?.hold).toBe(true);
      expect(await codeOf(store.delete('a'))).toBe('HOLD_ACTIVE');
      await store.release('a');
      await expectRefused(store, 'a', 'kept');
    }
    await store.protect('a', { hold: false });
    await store.release('a');
    expect(await store.protectionOf('a')).toBeUndefined();
    await store.delete('a');
    expect(await listNames(store)).toEqual([]);
  });

  it('a hold that is lifted leaves the date, and a date leaves the hold', async ({ skip }) => {
    const { store } = subject();
    if (!keepsDates(store)) return skip('this store keeps no dates');
    await writeBlob(store, 'a', 'kept');
    const until = Date.now() + DAY;
    await store.protect('a', { hold: true });
    await store.protect('a', { until });
    expect(await store.protectionOf('a')).toMatchObject({ hold: true });
    await store.protect('a', { hold: false });
    const found = await store.protectionOf('a');
    expect(found?.hold ?? false).toBe(false);
    expect(found?.until).toBeGreaterThanOrEqual(until);
    await expectRefused(store, 'a', 'kept');
  });

  it('a protection by a mark holds until it is released', async ({ skip }) => {
    const { store } = subject();
    if (store.capabilities.retention === 'none' || keepsDates(store)) return skip('this store has no marks');
    await writeBlob(store, 'a', 'kept');
    await store.protect('a', { until: Date.now() + DAY });
    await store.protect('a', { until: Date.now() + 2 * DAY });
    expect(await store.protectionOf('a')).toEqual({});
    await store.protect('a', { hold: false });
    await expectRefused(store, 'a', 'kept');
    await store.release('a');
    expect(await store.protectionOf('a')).toBeUndefined();
    await writeBlob(store, 'a', 'other');
    await store.delete('a');
    expect(await listNames(store)).toEqual([]);
  });
}
