// The list of typed records behind the header: how it is cut, and the payload of the one that is ours.
// It must not follow any name it finds: names in an image are data.

import { invalidImage } from './invalid-image.ts';
import type { Qcow2Limits } from './limits.ts';

/**
 * One record, from the end of the header up to the backing file name or the end of the first cluster:
 *   0  u32  type
 *   4  u32  length of the data
 *   8       data, padded with zeros to a multiple of 8
 * Type 0 ends the list.
 */
export interface HeaderExtension {
  readonly type: number;
  readonly data: Uint8Array;
}

export const EXTENSION_END = 0;
export const EXTENSION_BACKING_FORMAT = 0xe2792aca;
export const EXTENSION_FEATURE_NAMES = 0x6803f857;
export const EXTENSION_BITMAPS = 0x23852875;
export const EXTENSION_ENCRYPTION = 0x0537be77;
export const EXTENSION_DATA_FILE = 0x44415441;
/** Ours ("CKID"): which backup and which generation of it the image holds. Others ignore and keep it. */
export const CHAINKEEP_EXTENSION = 0x434b4944;

const KNOWN: ReadonlySet<number> = new Set([
  EXTENSION_BACKING_FORMAT,
  EXTENSION_FEATURE_NAMES,
  EXTENSION_BITMAPS,
  EXTENSION_ENCRYPTION,
  EXTENSION_DATA_FILE,
  CHAINKEEP_EXTENSION,
]);

const RECORD_HEAD = 8;

function padded(length: number): number {
  return Math.ceil(length / 8) * 8;
}

/**
 * Cuts `area[start, end)` into records; the data are copies, so that an open image does not hold all that was read for its header.
 * Throws QCOW2_INVALID for a record that does not fit, a known type given twice, and too many records.
 */
export function parseHeaderExtensions(area: Uint8Array, start: number, end: number, limits: Qcow2Limits): HeaderExtension[] {
  const view = new DataView(area.buffer, area.byteOffset, area.byteLength);
  const extensions: HeaderExtension[] = [];
  const seen = new Set<number>();
  let at = start;
  while (end - at >= RECORD_HEAD) {
    const type = view.getUint32(at);
    const length = view.getUint32(at + 4);
    if (type === EXTENSION_END) return extensions;
    if (length > end - at - RECORD_HEAD) {
      throw invalidImage(`header extension ${hex(type)} is ${length} bytes long, ${end - at - RECORD_HEAD} are left`, { offset: at });
    }
    if (KNOWN.has(type) && seen.has(type)) throw invalidImage(`header extension ${hex(type)} is given twice`, { offset: at });
    if (extensions.length >= limits.extensions) throw invalidImage(`more than ${limits.extensions} header extensions`);
    seen.add(type);
    extensions.push({ type, data: Uint8Array.from(area.subarray(at + RECORD_HEAD, at + RECORD_HEAD + length)) });
    at += RECORD_HEAD + padded(length);
  }
  if (at < end && area.subarray(at, end).some((byte) => byte !== 0)) {
    throw invalidImage(`the list of header extensions ends in the middle of a record`, { offset: at });
  }
  return extensions;
}

/** The records with the end marker. */
export function encodeHeaderExtensions(extensions: readonly HeaderExtension[]): Uint8Array {
  const length = extensions.reduce((sum, { data }) => sum + RECORD_HEAD + padded(data.length), RECORD_HEAD);
  const area = new Uint8Array(length);
  const view = new DataView(area.buffer);
  let at = 0;
  for (const { type, data } of extensions) {
    view.setUint32(at, type);
    view.setUint32(at + 4, data.length);
    area.set(data, at + RECORD_HEAD);
    at += RECORD_HEAD + padded(data.length);
  }
  return area;
}

export interface ChainkeepMark {
  readonly backupId: string;
  /** 1 at first, higher after merges. */
  readonly generation: number;
}

/** UTF-8 of `<backup_id>:<generation>`. */
export function encodeChainkeepExtension(mark: ChainkeepMark): HeaderExtension {
  return { type: CHAINKEEP_EXTENSION, data: new TextEncoder().encode(`${mark.backupId}:${mark.generation}`) };
}

/** Throws QCOW2_INVALID when the payload is not what we write. */
export function parseChainkeepExtension(data: Uint8Array): ChainkeepMark {
  const text = Buffer.from(data).toString('utf8');
  const match = /^([a-z0-9-]{1,64}):([1-9][0-9]{0,14})$/.exec(text);
  if (!match?.[1] || !match[2]) throw invalidImage('the Chainkeep header extension is damaged', { found: text.slice(0, 100) });
  return { backupId: match[1], generation: Number(match[2]) };
}

export function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, '0')}`;
}
