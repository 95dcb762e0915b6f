// Raw deflate, decoded by the book (RFC 1951) and slowly: the second opinion on a compressed cluster, which shares nothing with zlib.
// It must not be fast or clever, and it writes no byte behind its limit.

/**
 * `exact`: the stream ends where the limit is reached. `longer`: it goes on. `unfinished`: the input ends there without a last block.
 * In the other cases nobody can say what the cluster is.
 */
export type InflateEnd = 'exact' | 'longer' | 'unfinished' | 'short' | 'damaged';

const LENGTH_BASE = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258];
const LENGTH_EXTRA = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCE_BASE = [
  1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385,
  24577,
];
const DISTANCE_EXTRA = [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13];
const CODE_LENGTH_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const LONGEST_CODE = 15;
const END_OF_BLOCK = 256;

/** Canonical Huffman codes: how many there are of each length, and the symbols in the order of their codes. */
interface Codes {
  readonly counts: Uint16Array;
  readonly symbols: Uint16Array;
}

/** Ends the decoding, from however deep. */
class Stop extends Error {
  readonly end: InflateEnd;

  constructor(end: InflateEnd) {
    super(end);
    this.end = end;
  }
}

export function inflate(input: Uint8Array, output: Uint8Array): InflateEnd {
  const stream = new Stream(input, output);
  try {
    for (;;) {
      const last = stream.bits(1) === 1;
      decodeBlock(stream, stream.bits(2));
      if (last) return stream.full ? 'exact' : 'short';
    }
  } catch (error) {
    if (!(error instanceof Stop)) throw error;
    return error.end === 'short' && stream.full ? 'unfinished' : error.end === 'damaged' && stream.full ? 'longer' : error.end;
  }
}

class Stream {
  readonly #input: Uint8Array;
  readonly #output: Uint8Array;
  #at = 0;
  #held = 0;
  #heldBits = 0;
  #done = 0;

  constructor(input: Uint8Array, output: Uint8Array) {
    this.#input = input;
    this.#output = output;
  }

  get full(): boolean {
    return this.#done === this.#output.length;
  }

  bits(count: number): number {
    while (this.#heldBits < count) {
      const byte = this.#input[this.#at];
      if (byte === undefined) throw new Stop('short');
      this.#held |= byte << this.#heldBits;
      this.#heldBits += 8;
      this.#at += 1;
    }
    const value = this.#held & ((1 << count) - 1);
    this.#held >>>= count;
    this.#heldBits -= count;
    return value;
  }

  symbol({ counts, symbols }: Codes): number {
    let code = 0;
    let first = 0;
    let index = 0;
    for (let length = 1; length <= LONGEST_CODE; length++) {
      code |= this.bits(1);
      const count = counts[length] ?? 0;
      if (code - count < first) return symbols[index + code - first] ?? 0;
      index += count;
      first = (first + count) << 1;
      code <<= 1;
    }
    throw new Stop('damaged');
  }

  put(byte: number): void {
    if (this.full) throw new Stop('longer');
    this.#output[this.#done] = byte;
    this.#done += 1;
  }

  copy(distance: number, length: number): void {
    if (distance > this.#done) throw new Stop('damaged');
    for (let left = length; left > 0; left--) this.put(this.#output[this.#done - distance] ?? 0);
  }

  /** A block that is stored as it is. */
  stored(): void {
    this.#held = 0;
    this.#heldBits = 0;
    const length = this.bits(16);
    if ((length ^ 0xffff) !== this.bits(16)) throw new Stop('damaged');
    for (let left = length; left > 0; left--) this.put(this.bits(8));
  }
}

function decodeBlock(stream: Stream, type: number): void {
  if (type === 3) throw new Stop('damaged');
  if (type === 0) {
    stream.stored();
    return;
  }
  const { literals, distances } = type === 1 ? fixedCodes() : readCodes(stream);
  for (;;) {
    const symbol = stream.symbol(literals);
    if (symbol === END_OF_BLOCK) return;
    if (symbol < END_OF_BLOCK) {
      stream.put(symbol);
      continue;
    }
    const length = LENGTH_BASE[symbol - 257];
    if (length === undefined) throw new Stop('damaged');
    const whole = length + stream.bits(LENGTH_EXTRA[symbol - 257] ?? 0);
    const far = stream.symbol(distances);
    const distance = DISTANCE_BASE[far];
    if (distance === undefined) throw new Stop('damaged');
    stream.copy(distance + stream.bits(DISTANCE_EXTRA[far] ?? 0), whole);
  }
}

function fixedCodes(): { readonly literals: Codes; readonly distances: Codes } {
  const lengths = Array.from({ length: 288 }, (_, symbol) => (symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8));
  return { literals: makeCodes(lengths).codes, distances: makeCodes(new Array<number>(30).fill(5)).codes };
}

function readCodes(stream: Stream): { readonly literals: Codes; readonly distances: Codes } {
  const literalCount = stream.bits(5) + 257;
  const distanceCount = stream.bits(5) + 1;
  const lengthCount = stream.bits(4) + 4;
  if (literalCount > 286 || distanceCount > 30) throw new Stop('damaged');
  const ofLengths = new Array<number>(19).fill(0);
  for (const symbol of CODE_LENGTH_ORDER.slice(0, lengthCount)) ofLengths[symbol] = stream.bits(3);
  const { codes, left } = makeCodes(ofLengths);
  if (left !== 0) throw new Stop('damaged');
  const lengths = readLengths(stream, codes, literalCount + distanceCount);
  if (lengths[END_OF_BLOCK] === 0) throw new Stop('damaged');
  return { literals: checked(lengths.slice(0, literalCount)), distances: checked(lengths.slice(literalCount)) };
}

function readLengths(stream: Stream, codes: Codes, count: number): number[] {
  const lengths: number[] = [];
  while (lengths.length < count) {
    const symbol = stream.symbol(codes);
    if (symbol < 16) {
      lengths.push(symbol);
      continue;
    }
    const before = lengths.at(-1);
    if (symbol === 16 && before === undefined) throw new Stop('damaged');
    const times = symbol === 16 ? 3 + stream.bits(2) : symbol === 17 ? 3 + stream.bits(3) : 11 + stream.bits(7);
    if (lengths.length + times > count) throw new Stop('damaged');
    for (let left = times; left > 0; left--) lengths.push(symbol === 16 ? (before ?? 0) : 0);
  }
  return lengths;
}

/** Codes that leave something open are allowed only where there is a single one. */
function checked(lengths: readonly number[]): Codes {
  const { codes, left } = makeCodes(lengths);
  const used = lengths.filter((length) => length > 0);
  if (left < 0 || (left > 0 && !(used.length <= 1 && (used[0] ?? 1) === 1))) throw new Stop('damaged');
  return codes;
}

function makeCodes(lengths: readonly number[]): { readonly codes: Codes; readonly left: number } {
  const counts = new Uint16Array(LONGEST_CODE + 1);
  for (const length of lengths) counts[length] = (counts[length] ?? 0) + 1;
  const places = new Uint16Array(LONGEST_CODE + 2);
  let left = 1;
  for (let length = 1; length <= LONGEST_CODE; length++) {
    left = left * 2 - (counts[length] ?? 0);
    if (left < 0) throw new Stop('damaged');
    places[length + 1] = (places[length] ?? 0) + (counts[length] ?? 0);
  }
  const symbols = new Uint16Array(lengths.length);
  lengths.forEach((length, symbol) => {
    if (length === 0) return;
    const place = places[length] ?? 0;
    symbols[place] = symbol;
    places[length] = place + 1;
  });
  return { codes: { counts, symbols }, left };
}
