// Choosing an export: the data of NBD_OPT_INFO and NBD_OPT_GO, and the pieces of information a server answers with.

import { readU64, writeU64 } from '../../plumbing/big-endian.ts';
import { protocolBreach } from './breach.ts';
import { encodeText, parseText } from './text.ts';
import { dataView } from './view.ts';

export const INFO = { EXPORT: 0, NAME: 1, DESCRIPTION: 2, BLOCK_SIZE: 3 } as const;

/**
 * Data of the option:
 *    0        u32  length of the name
 *    4             name
 *    4 + n    u16  number of informations asked for
 *    6 + n    u16  each of them
 */
export interface InfoRequest {
  readonly name: string;
  readonly wanted: readonly number[];
}

export function encodeInfoRequest({ name, wanted }: InfoRequest): Buffer {
  const text = encodeText(name);
  const bytes = Buffer.alloc(6 + text.length + 2 * wanted.length);
  bytes.writeUInt32BE(text.length);
  text.copy(bytes, 4);
  bytes.writeUInt16BE(wanted.length, 4 + text.length);
  for (const [index, info] of wanted.entries()) bytes.writeUInt16BE(info, 6 + text.length + 2 * index);
  return bytes;
}

/** Undefined for data that do not add up: the server answers ERR_INVALID and goes on. */
export function parseInfoRequest(data: Uint8Array): InfoRequest | undefined {
  if (data.length < 6) return undefined;
  const view = dataView(data);
  const length = view.getUint32(0);
  if (length > data.length - 6) return undefined;
  const name = parseText(data.subarray(4, 4 + length));
  const count = view.getUint16(4 + length);
  if (name === undefined || data.length !== 6 + length + 2 * count) return undefined;
  return { name, wanted: Array.from({ length: count }, (_, index) => view.getUint16(6 + length + 2 * index)) };
}

/**
 * Data of REP_INFO, each beginning with u16 its number:
 *   EXPORT (0)       2 u64 size in bytes, 10 u16 transmission flags
 *   NAME (1)         2     the server's own name of the export
 *   DESCRIPTION (2)  2     a text for people
 *   BLOCK_SIZE (3)   2 u32 minimum, 6 u32 preferred, 10 u32 most bytes of payload
 */
export type ExportInfo =
  | { readonly info: typeof INFO.EXPORT; readonly size: number; readonly flags: number }
  | { readonly info: typeof INFO.NAME; readonly name: string }
  | { readonly info: typeof INFO.DESCRIPTION; readonly description: string }
  | { readonly info: typeof INFO.BLOCK_SIZE; readonly blockSize: BlockSize };

/** All in bytes. */
export interface BlockSize {
  /** Offsets and lengths of requests must be multiples of it; a power of 2. */
  readonly minimum: number;
  readonly preferred: number;
  /** The longest read or write. */
  readonly maximum: number;
}

const EXPORT_LENGTH = 12;
const BLOCK_SIZE_LENGTH = 14;

export function encodeExportInfo(info: ExportInfo): Buffer {
  switch (info.info) {
    case INFO.EXPORT: {
      const bytes = startInfo(info.info, EXPORT_LENGTH);
      writeU64(dataView(bytes), 2, info.size);
      bytes.writeUInt16BE(info.flags, 10);
      return bytes;
    }
    case INFO.BLOCK_SIZE: {
      const bytes = startInfo(info.info, BLOCK_SIZE_LENGTH);
      bytes.writeUInt32BE(info.blockSize.minimum, 2);
      bytes.writeUInt32BE(info.blockSize.preferred, 6);
      bytes.writeUInt32BE(info.blockSize.maximum, 10);
      return bytes;
    }
    case INFO.NAME:
      return Buffer.concat([startInfo(info.info, 2), encodeText(info.name)]);
    case INFO.DESCRIPTION:
      return Buffer.concat([startInfo(info.info, 2), encodeText(info.description)]);
  }
}

function startInfo(info: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  bytes.writeUInt16BE(info);
  return bytes;
}

/** Undefined for information of a kind that this version does not know, which must be ignored. Throws NBD_PROTOCOL for a wrong length. */
export function parseExportInfo(data: Uint8Array): ExportInfo | undefined {
  if (data.length < 2) throw protocolBreach('information about an export without a kind', { length: data.length });
  const view = dataView(data);
  const info = view.getUint16(0);
  switch (info) {
    case INFO.EXPORT:
      if (data.length !== EXPORT_LENGTH) throw wrongLength('EXPORT', data.length, EXPORT_LENGTH);
      return { info, size: readU64(view, 2), flags: view.getUint16(10) };
    case INFO.BLOCK_SIZE:
      if (data.length !== BLOCK_SIZE_LENGTH) throw wrongLength('BLOCK_SIZE', data.length, BLOCK_SIZE_LENGTH);
      return { info, blockSize: { minimum: view.getUint32(2), preferred: view.getUint32(6), maximum: view.getUint32(10) } };
    case INFO.NAME:
      return { info, name: parseInfoText(data) };
    case INFO.DESCRIPTION:
      return { info, description: parseInfoText(data) };
    default:
      return undefined;
  }
}

function parseInfoText(data: Uint8Array): string {
  const text = parseText(data.subarray(2));
  if (text === undefined) throw protocolBreach('a name or description of an export is no text', { length: data.length });
  return text;
}

function wrongLength(name: string, length: number, expected: number): Error {
  return protocolBreach(`information ${name} of ${length} bytes, not ${expected}`, { length, expected });
}

/** Most bytes of a request where nothing else was said: what every server takes ("Size constraints"). */
export const DEFAULT_MOST_PAYLOAD = 32 * 1024 ** 2;
export const DEFAULT_BLOCK_SIZE: BlockSize = { minimum: 1, preferred: 4096, maximum: DEFAULT_MOST_PAYLOAD };

/** Why sizes cannot be kept to; undefined for those that can ("Size constraints"). */
export function blockSizeFault({ minimum, preferred, maximum }: BlockSize): string | undefined {
  if (!isPowerOfTwo(minimum) || minimum > 65_536) return `the minimum ${minimum} is no power of 2 up to 65536`;
  if (!isPowerOfTwo(preferred) || preferred < Math.max(512, minimum)) return `the preferred size ${preferred} is no power of 2 from 512 on`;
  // 2^32 - 1 stands for "no limit" and is no multiple of anything.
  if (maximum !== 0xffff_ffff && maximum % minimum !== 0) return `the most bytes of payload ${maximum} is no multiple of ${minimum}`;
  return maximum < minimum ? `the most bytes of payload ${maximum} is below the minimum ${minimum}` : undefined;
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && Number.isInteger(Math.log2(value));
}
