// A store that keeps dates and holds by itself, as object stores with locks do, over one that does not: for rules that differ there.
// The real ones are tried by the suites of their kinds; this one can be asked in every test.

import { ChainkeepError } from '../../src/plumbing/errors.ts';
import type { BlobProtection, BlobStore } from '../../src/store/blob-store.ts';

export function datedStore(inner: BlobStore, now: () => number): BlobStore {
  const protections = new Map<string, BlobProtection>();
  const { retentionMark: _, ...capabilities } = { ...inner.capabilities };
  const refuse = (name: string): void => {
    const { until = 0, hold = false } = protections.get(name) ?? {};
    const context = { retention_expires_at: new Date(until).toISOString() };
    if (until > now()) throw new ChainkeepError('IMMUTABLE_RETENTION_ACTIVE', `${name} is locked`, { context });
    if (hold) throw new ChainkeepError('HOLD_ACTIVE', `${name} is held`);
  };
  return {
    place: inner.place,
    capabilities: { ...capabilities, retention: 'enforced', clock: true },
    list: (prefix) => inner.list(prefix),
    stat: (name) => inner.stat(name),
    open: (name) => inner.open(name),
    put: async (name, options) => {
      if (!options?.ifAbsent) refuse(name);
      return inner.put(name, options);
    },
    delete: async (name) => {
      refuse(name);
      await inner.delete(name);
      protections.delete(name);
    },
    protect: async (name, { until, hold }) => {
      if (!(await inner.stat(name))) throw new ChainkeepError('BLOB_NOT_FOUND', name);
      const found = protections.get(name);
      const date = Math.max(until ?? 0, found?.until ?? 0);
      protections.set(name, { ...(date > 0 && { until: date }), hold: hold ?? found?.hold ?? false });
    },
    protectionOf: async (name) => {
      if (!(await inner.stat(name))) throw new ChainkeepError('BLOB_NOT_FOUND', name);
      return protections.get(name);
    },
    release: async () => undefined,
    sweep: (prefix, isDead) => inner.sweep(prefix, isDead),
    capacity: () => inner.capacity(),
    now: async () => now(),
    close: () => inner.close(),
  };
}
