// The metadata contexts of an export: which there are, which a query means, and what is said of a range in each.

import type { DiskReader } from '../../disk/disk-reader.ts';
import type { ByteRange } from '../../disk/extent.ts';
import type { StatusDescriptor } from '../protocol/block-status.ts';
import { ALLOCATION_FLAG, BASE_ALLOCATION } from '../protocol/meta-context.ts';
import type { NbdExport, ServedContext } from './nbd-export.ts';

export interface ChosenContext extends ServedContext {
  /** On this connection. */
  readonly id: number;
}

function contextsOf(served: NbdExport): readonly ServedContext[] {
  return [allocationOf(served.disk), ...(served.contexts ?? [])];
}

/** What a disk says of itself: neither zero nor absent extents have room of their own, and both read as zeros. */
function allocationOf(disk: DiskReader): ServedContext {
  return {
    name: BASE_ALLOCATION,
    async *ranges(range) {
      for await (const { offset, length, kind } of disk.extents(range)) {
        yield { offset, length, flags: kind === 'data' ? 0 : ALLOCATION_FLAG.HOLE | ALLOCATION_FLAG.ZERO };
      }
    },
  };
}

/** Without queries all of them; a query may be the beginning of names up to a colon. */
export function listContexts(served: NbdExport, queries: readonly string[]): readonly string[] {
  const names = contextsOf(served).map(({ name }) => name);
  if (queries.length === 0) return names;
  return names.filter((name) => queries.some((query) => query === name || (query.endsWith(':') && name.startsWith(query))));
}

/** Only whole names choose; what is not there is left out. */
export function selectContexts(served: NbdExport, queries: readonly string[]): readonly ChosenContext[] {
  return contextsOf(served)
    .filter(({ name }) => queries.includes(name))
    .map((context, index) => ({ ...context, id: index + 1 }));
}

/** Descriptors of one answer: bounds its memory. A client asks again from where the answer ends. */
const MOST_DESCRIPTORS = 16_384;
/** Stretches that are looked at for one answer, joined or not: bounds its time. */
const MOST_RANGES = 65_536;
/** The longest stretch of a compact descriptor, a multiple of every block size. */
const MOST_COMPACT_LENGTH = 2 ** 32 - 65_536;

export interface StatusWish {
  readonly range: ByteRange;
  /** One descriptor alone. */
  readonly one: boolean;
  readonly extended: boolean;
}

/** At least one descriptor; together at most as long as the range. */
export async function describeRange(context: ServedContext, { range, one, extended }: StatusWish): Promise<StatusDescriptor[]> {
  const descriptors: { length: number; flags: number }[] = [];
  let looked = 0;
  for await (const { length, flags } of context.ranges(range)) {
    const last = descriptors.at(-1);
    const joined = last?.flags === flags && (extended || last.length + length <= MOST_COMPACT_LENGTH);
    if (last && joined) last.length += length;
    else if (one && last) break;
    else descriptors.push({ length: extended ? length : Math.min(length, MOST_COMPACT_LENGTH), flags });
    // A stretch that was cut ends the answer: nothing may follow a gap.
    if (!extended && length > MOST_COMPACT_LENGTH) break;
    if (descriptors.length >= MOST_DESCRIPTORS || ++looked >= MOST_RANGES) break;
  }
  return descriptors;
}
