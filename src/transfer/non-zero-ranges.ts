// Where a buffer is not zero, in blocks of a file system: what is left out of a new file stays a hole there, as it was in the disk.

const BLOCK = 4096;
const ZEROS = Buffer.alloc(BLOCK);

/** [start, end) of the ranges of `bytes` between `from` and `to` whose blocks are not all zeros; blocks are counted from `from`. */
export function nonZeroRanges(bytes: Buffer, from: number, to: number): (readonly [number, number])[] {
  const ranges: (readonly [number, number])[] = [];
  let start = -1;
  for (let at = from; at < to; at += BLOCK) {
    const zero = isZero(bytes, at, Math.min(at + BLOCK, to));
    if (!zero && start < 0) start = at;
    if (zero && start >= 0) {
      ranges.push([start, at]);
      start = -1;
    }
  }
  if (start >= 0) ranges.push([start, to]);
  return ranges;
}

/** Most blocks that are not zero begin with something that is not. */
function isZero(bytes: Buffer, from: number, to: number): boolean {
  return bytes[from] === 0 && bytes.compare(ZEROS, 0, to - from, from, to) === 0;
}
