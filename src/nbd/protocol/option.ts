// What a client asks for during the negotiation: the head of an option, and the numbers of all options.
// The data of each option stand in files of their own.

import { hex, protocolBreach } from './breach.ts';
import { OPTION_MAGIC } from './handshake.ts';
import { dataView } from './view.ts';

/**
 *    0  u64  "IHAVEOPT"
 *    8  u32  option
 *   12  u32  length of the data
 *   16       data
 */
export const OPTION_HEAD_LENGTH = 16;

export const OPTION = {
  EXPORT_NAME: 1,
  ABORT: 2,
  LIST: 3,
  STARTTLS: 5,
  INFO: 6,
  GO: 7,
  STRUCTURED_REPLY: 8,
  LIST_META_CONTEXT: 9,
  SET_META_CONTEXT: 10,
  EXTENDED_HEADERS: 11,
} as const;

/** More data than the longest option can sensibly have; who sends more is not listened to any longer (CVE-2017-15119). */
export const MOST_OPTION_BYTES = 64 * 1024;

const NAMES = new Map<number, string>(Object.entries(OPTION).map(([name, number]) => [number, name]));

export function optionName(option: number): string {
  return NAMES.get(option) ?? `option ${option}`;
}

export interface OptionHead {
  readonly option: number;
  readonly length: number;
}

export function encodeOption(option: number, data: Uint8Array = Buffer.alloc(0)): Buffer {
  const bytes = Buffer.alloc(OPTION_HEAD_LENGTH + data.length);
  OPTION_MAGIC.copy(bytes);
  bytes.writeUInt32BE(option, 8);
  bytes.writeUInt32BE(data.length, 12);
  bytes.set(data, OPTION_HEAD_LENGTH);
  return bytes;
}

/** Throws NBD_PROTOCOL for what is no option, and for more data than any option has. */
export function parseOptionHead(bytes: Uint8Array): OptionHead {
  if (!OPTION_MAGIC.equals(bytes.subarray(0, 8))) throw protocolBreach('an option does not begin like one');
  const view = dataView(bytes);
  const option = view.getUint32(8);
  const length = view.getUint32(12);
  if (length > MOST_OPTION_BYTES)
    throw protocolBreach(`option ${hex(option)} with ${length} bytes of data, ${MOST_OPTION_BYTES} are allowed`, { option, length });
  return { option, length };
}
