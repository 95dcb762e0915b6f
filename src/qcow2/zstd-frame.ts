// The outside of a zstd frame: how long it is, and what it asks for, before any decoder sees it.
// RFC 8878, section 3.1. It must not decode: it walks block heads only.

/**
 * Frame: magic 0xFD2FB528 (little-endian), descriptor byte, window byte unless single segment, dictionary id, content size, blocks, checksum.
 * Descriptor: bits 6-7 width of the content size, 5 single segment, 3 reserved, 2 checksum, 0-1 width of the dictionary id.
 * Block head, 3 bytes little-endian: bit 0 last, bits 1-2 type (0 raw, 1 run of one byte, 2 compressed), bits 3-23 size.
 * Skippable frame: magic 0x184D2A50 to 0x184D2A5F, u32 length, data.
 */
const MAGIC = 0xfd2fb528;
const SKIPPABLE_MAGIC = 0x184d2a50;
const SKIPPABLE_MASK = 0xffff_fff0;
const DICTIONARY_ID_BYTES = [0, 1, 2, 4] as const;
const CONTENT_SIZE_BYTES = [0, 2, 4, 8] as const;
const BLOCK_HEAD = 3;
const BLOCK_RUN = 1;
const BLOCK_RESERVED = 3;
const CHECKSUM_BYTES = 4;

export interface ZstdFrame {
  /** Bytes of the whole frame. */
  readonly length: number;
  readonly skippable: boolean;
  /** Bytes the decoder must remember; 0 for a skippable frame. */
  readonly windowSize: number;
}

/** The frame that starts at `at`, or what is wrong with it. Every read stays inside `bytes`. */
export function parseZstdFrame(bytes: Uint8Array, at: number): ZstdFrame | { readonly fault: string } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (at + 5 > bytes.length) return { fault: 'the stream ends before the frame' };
  const magic = view.getUint32(at, true);
  if ((magic & SKIPPABLE_MASK) >>> 0 === SKIPPABLE_MAGIC) return parseSkippable(view, at);
  if (magic !== MAGIC) return { fault: 'no zstd frame starts here' };
  const descriptor = view.getUint8(at + 4);
  const single = (descriptor & 0x20) !== 0;
  const dictionaryBytes = DICTIONARY_ID_BYTES[descriptor & 3] ?? 0;
  const sizeCode = descriptor >> 6;
  const sizeBytes = sizeCode === 0 && single ? 1 : (CONTENT_SIZE_BYTES[sizeCode] ?? 0);
  const windowAt = at + 5;
  const sizeAt = windowAt + (single ? 0 : 1) + dictionaryBytes;
  const blocksAt = sizeAt + sizeBytes;
  if (blocksAt > bytes.length) return { fault: 'the stream ends in the head of a frame' };
  const end = findEndOfBlocks(view, blocksAt);
  if (end === undefined) return { fault: 'the stream ends in the middle of a frame' };
  const length = end + ((descriptor & 4) !== 0 ? CHECKSUM_BYTES : 0) - at;
  if (at + length > bytes.length) return { fault: 'the stream ends in the checksum of a frame' };
  const windowSize = single ? readContentSize(view, sizeAt, sizeBytes) : decodeWindow(view.getUint8(windowAt));
  return { length, skippable: false, windowSize };
}

function parseSkippable(view: DataView, at: number): ZstdFrame | { readonly fault: string } {
  if (at + 8 > view.byteLength) return { fault: 'the stream ends in the head of a frame' };
  const length = 8 + view.getUint32(at + 4, true);
  if (at + length > view.byteLength) return { fault: 'the stream ends in the middle of a frame' };
  return { length, skippable: true, windowSize: 0 };
}

function findEndOfBlocks(view: DataView, start: number): number | undefined {
  let at = start;
  while (at + BLOCK_HEAD <= view.byteLength) {
    const head = view.getUint16(at, true) | (view.getUint8(at + 2) << 16);
    const type = (head >> 1) & 3;
    if (type === BLOCK_RESERVED) return undefined;
    at += BLOCK_HEAD + (type === BLOCK_RUN ? 1 : head >> 3);
    if (at > view.byteLength) return undefined;
    if ((head & 1) !== 0) return at;
  }
  return undefined;
}

function readContentSize(view: DataView, at: number, bytes: number): number {
  if (bytes === 1) return view.getUint8(at);
  if (bytes === 2) return view.getUint16(at, true) + 256;
  if (bytes === 4) return view.getUint32(at, true);
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
}

function decodeWindow(byte: number): number {
  const base = 2 ** (10 + (byte >> 3));
  return base + (base / 8) * (byte & 7);
}
