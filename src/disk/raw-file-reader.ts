// A raw file or block device as a disk. Holes are found with SEEK_DATA and SEEK_HOLE; where that is not possible all is data.

import type { ByteSource } from '../plumbing/byte-source.ts';
import { loadNative, type Native } from '../plumbing/native.ts';
import type { DiskReader } from './disk-reader.ts';
import type { ByteRange, Extent } from './extent.ts';

const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/** A disk whose bytes stand as they are in `source`, of exactly `size` bytes. Closing it closes the source. */
export function openRawReader(source: ByteSource, size: number = source.size): DiskReader {
  const native = source.fd === undefined ? undefined : loadNative();
  const known: KnownData = { start: 0, end: 0 };
  return {
    size,
    name: source.name,
    extents: (range) => rawExtents(source, range, native, known),
    read: (buffer, offset) => source.read(buffer, offset),
    close: () => source.close(),
  };
}

/**
 * The stretch of data that was found last. A file system may have to walk all of it to find its end (tmpfs does, page by page), which
 * must not happen again for each small range in it. It stays right: what was data once can be read for ever.
 */
interface KnownData {
  start: number;
  end: number;
}

async function* rawExtents(source: ByteSource, range: ByteRange, native: Native | undefined, known: KnownData): AsyncGenerator<Extent> {
  const end = range.offset + range.length;
  for (let at = range.offset; at < end; ) {
    const data =
      at >= known.start && at < known.end ? { start: at, end: Math.min(end, known.end) } : nextData(source, at, end, native, known);
    if (data.start > at) yield { offset: at, length: data.start - at, kind: 'zero' };
    if (data.end > data.start) {
      const stored = { source, offset: data.start, length: data.end - data.start, compression: 'none' as const };
      yield { offset: data.start, length: data.end - data.start, kind: 'data', stored };
    }
    at = data.end;
  }
}

/** The next stretch of data at or behind `at`, cut at `end`; empty at `end` when only a hole is left. */
function nextData(
  source: ByteSource,
  at: number,
  end: number,
  native: Native | undefined,
  known: KnownData,
): { start: number; end: number } {
  if (!native || source.fd === undefined) return { start: at, end };
  const start = native.lseek(source.fd, at, SEEK_DATA);
  // Some file systems answer nonsense, such as a place in front of the one that was asked for: then nothing is known.
  if (start < at) return holeOrUnknown(source.fd, at, end, native);
  if (start >= end) return { start: end, end };
  const stop = native.lseek(source.fd, start, SEEK_HOLE);
  if (stop <= start) return { start, end };
  known.start = start;
  known.end = stop;
  return { start, end: Math.min(stop, end) };
}

/** SEEK_DATA fails both where only a hole is left (ENXIO) and where it is not known (EINVAL); only the first may be taken for zeros. */
function holeOrUnknown(fd: number, at: number, end: number, native: Native): { start: number; end: number } {
  // Every file ends in a hole for SEEK_HOLE; where even that fails, the file system cannot say.
  return native.lseek(fd, at, SEEK_HOLE) === at ? { start: end, end } : { start: at, end };
}
