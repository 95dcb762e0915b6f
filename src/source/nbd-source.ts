// An NBD export as what is backed up: only what the server does not call zeros is read, or what a dirty bitmap of QEMU marks.

import type { ChangeTracking } from '../disk/change-list.ts';
import type { ByteRange } from '../disk/extent.ts';
import { type NbdReader, openNbdReader } from '../nbd/client/nbd-reader.ts';
import { BASE_ALLOCATION, DIRTY_BITMAP_PREFIX } from '../nbd/protocol/meta-context.ts';
import { hasFlag } from '../nbd/protocol/transmission-flags.ts';
import { systemClock } from '../plumbing/clock.ts';
import type { OpenedSource } from './open-source.ts';

export interface NbdSourceOptions {
  /** Name of the dirty bitmap that says what changed since the backup that was kept with this name as its change id. */
  readonly bitmap?: string | undefined;
  /** Ends it for good, also reads that are under way. */
  readonly signal?: AbortSignal | undefined;
}

/** Throws what `openNbdReader` throws. */
export async function openNbdSource(address: string, { bitmap, signal }: NbdSourceOptions): Promise<OpenedSource> {
  const wanted = bitmap === undefined ? [] : [DIRTY_BITMAP_PREFIX + bitmap];
  // What comes back at an address after a connection was lost may be the disk of another moment: half of a backup of each would look like a whole one.
  const reader = await openNbdReader(address, { contexts: wanted, reconnectWithin: 0, ...(signal && { signal }) });
  const { name, facts, contexts } = reader;
  const notices: string[] = [];
  if (!hasFlag(facts.flags, 'READ_ONLY'))
    notices.push(`${name} can be written to: if somebody does meanwhile, the backup may hold a state between two moments`);
  if (!contexts.includes(BASE_ALLOCATION)) notices.push(`${name} does not tell where it reads as zeros: all of it is read`);
  // An export has one size as long as one is connected.
  const source = { reader, kind: 'nbd', notices, checkUnchanged: async () => undefined } as const;
  if (bitmap === undefined) return source;
  const tracking = trackChanges(reader, new Map([[bitmap, DIRTY_BITMAP_PREFIX + bitmap]]), `the bitmap ${bitmap}`);
  const changes = { ...tracking, asOf: systemClock.now() };
  // The bitmap is there at this moment, so it will know of everything that is written after it.
  if (contexts.includes(DIRTY_BITMAP_PREFIX + bitmap)) return { ...source, changes, mark: bitmap };
  notices.push(
    `${name} has no bitmap ${bitmap}: QEMU leaves out one that is missing or inconsistent; nobody can tell what changes from now on`,
  );
  return { ...source, changes: { ...changes, name: `an export without the bitmap ${bitmap}` } };
}

/** Changes by dirty bitmaps: `bitmaps` is from the mark that a backup was kept with to the context that tells what changed since. */
export function trackChanges(reader: NbdReader, bitmaps: ReadonlyMap<string, string>, name: string): ChangeTracking {
  return {
    name,
    otherwise: 'compare',
    since: (mark) => {
      const context = bitmaps.get(mark);
      if (context === undefined || !reader.contexts.includes(context)) return undefined;
      return { name: `the bitmap ${mark}`, changed: () => dirtyRanges(reader, context) };
    },
  };
}

async function* dirtyRanges(reader: NbdReader, context: string): AsyncGenerator<ByteRange> {
  for await (const { offset, length, flags } of reader.ranges(context, { offset: 0, length: reader.size })) {
    // Also bits that nobody has defined yet are no promise that nothing changed.
    if (flags !== 0) yield { offset, length };
  }
}
