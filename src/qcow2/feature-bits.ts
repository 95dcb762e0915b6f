// Feature bits of the version 3 header, and the table in the header that gives them names.
// Deciding what an unknown bit means for an image is the header's work.

/** Incompatible: a reader that does not know the bit must refuse the image. */
export const INCOMPATIBLE_DIRTY = 0;
export const INCOMPATIBLE_CORRUPT = 1;
/** Bit 2, although one paragraph of QEMU's qcow2.rst calls it 1. */
export const INCOMPATIBLE_DATA_FILE = 2;
export const INCOMPATIBLE_COMPRESSION = 3;
export const INCOMPATIBLE_EXTENDED_L2 = 4;
export const COMPATIBLE_LAZY_REFCOUNTS = 0;
/** Autoclear: a writer that does not know the bit must clear it. */
export const AUTOCLEAR_BITMAPS = 0;
export const AUTOCLEAR_RAW_DATA_FILE = 1;

const KNOWN_INCOMPATIBLE = 0b11111n;

/** Feature name table: entries of 48 bytes; byte 0 kind of bits, byte 1 bit number, bytes 2-47 name, padded with NUL. */
const ENTRY_LENGTH = 48;
const NAME_OFFSET = 2;
const KINDS = ['incompatible', 'compatible', 'autoclear'] as const;

export type FeatureKind = (typeof KINDS)[number];

export interface FeatureName {
  readonly kind: FeatureKind;
  readonly bit: number;
  readonly name: string;
}

/** The names as QEMU writes them. */
export const FEATURE_NAMES: readonly FeatureName[] = [
  { kind: 'incompatible', bit: INCOMPATIBLE_DIRTY, name: 'dirty bit' },
  { kind: 'incompatible', bit: INCOMPATIBLE_CORRUPT, name: 'corrupt bit' },
  { kind: 'incompatible', bit: INCOMPATIBLE_DATA_FILE, name: 'external data file' },
  { kind: 'incompatible', bit: INCOMPATIBLE_COMPRESSION, name: 'compression type' },
  { kind: 'incompatible', bit: INCOMPATIBLE_EXTENDED_L2, name: 'extended L2 entries' },
  { kind: 'compatible', bit: COMPATIBLE_LAZY_REFCOUNTS, name: 'lazy refcounts' },
  { kind: 'autoclear', bit: AUTOCLEAR_BITMAPS, name: 'bitmaps' },
  { kind: 'autoclear', bit: AUTOCLEAR_RAW_DATA_FILE, name: 'raw external data' },
];

export function hasBit(bits: bigint, bit: number): boolean {
  return ((bits >> BigInt(bit)) & 1n) === 1n;
}

/** The bit numbers this reader does not know, ascending. */
export function unknownIncompatibleBits(bits: bigint): number[] {
  const unknown: number[] = [];
  for (let bit = 0; bit < 64; bit += 1) {
    if (hasBit(bits & ~KNOWN_INCOMPATIBLE, bit)) unknown.push(bit);
  }
  return unknown;
}

export function encodeFeatureNames(names: readonly FeatureName[]): Uint8Array {
  const data = new Uint8Array(names.length * ENTRY_LENGTH);
  names.forEach((feature, index) => {
    const at = index * ENTRY_LENGTH;
    data[at] = KINDS.indexOf(feature.kind);
    data[at + 1] = feature.bit;
    new TextEncoder().encodeInto(feature.name, data.subarray(at + NAME_OFFSET, at + ENTRY_LENGTH));
  });
  return data;
}

/** Entries of an unknown kind and a last incomplete entry are left out: names are for messages only. */
export function parseFeatureNames(data: Uint8Array): FeatureName[] {
  const names: FeatureName[] = [];
  for (let at = 0; at + ENTRY_LENGTH <= data.length; at += ENTRY_LENGTH) {
    const kind = KINDS[data[at] ?? KINDS.length];
    const bytes = data.subarray(at + NAME_OFFSET, at + ENTRY_LENGTH);
    const end = bytes.indexOf(0);
    if (kind) names.push({ kind, bit: data[at + 1] ?? 0, name: Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString('utf8') });
  }
  return names;
}
