// What a server gives to clients: a disk to read, perhaps one that can be changed, and what is known of its ranges.

import type { DiskReader } from '../../disk/disk-reader.ts';
import type { ByteRange } from '../../disk/extent.ts';
import { type BlockSize, DEFAULT_MOST_PAYLOAD } from '../protocol/export-info.ts';

/** How a disk that is served can be changed. Ranges lie inside of the disk; they may be of any offset and length. */
export interface DiskChanges {
  /** When it has thrown, something may still read from the buffer, and nobody changes it. */
  write(bytes: Uint8Array, offset: number): Promise<void>;
  /** Makes the range read as zeros. `keep`: room for it stays reserved, where the disk knows a difference. */
  zero(offset: number, length: number, keep: boolean): Promise<void>;
  /** Nobody needs the range any more; it may read as anything afterwards, also as before. */
  trim(offset: number, length: number): Promise<void>;
  /** All changes that had ended when it was called are durable, whichever connection they came from. */
  flush(): Promise<void>;
}

/** A metadata context besides base:allocation: a dirty bitmap, say. */
export interface ServedContext {
  /** `namespace:leaf` */
  readonly name: string;
  /** Ascending, without gaps, cut to the range. */
  ranges(range: ByteRange): AsyncIterable<{ readonly offset: number; readonly length: number; readonly flags: number }>;
}

export interface RefusedChange {
  /** `WRITE` */
  readonly command: string;
  readonly offset: number;
  readonly length: number;
}

export interface NbdExport {
  /** Whoever knows it can read the disk, unless TLS asks for more: it should not be guessable. */
  readonly name: string;
  /** For people. */
  readonly description?: string;
  /** Must allow several reads at a time. It is not closed by the server. */
  readonly disk: DiskReader;
  /** Without it the export is read-only. */
  readonly changes?: DiskChanges;
  readonly contexts?: readonly ServedContext[];
  /**
   * Hears of each client that has chosen the export. What it answers hears when nothing of that client is at work on the disk any more, and whether the
   * client had said goodbye (NBD_CMD_DISC); one that vanishes may not have had an answer to all that it asked for.
   */
  readonly onClient?: () => (saidGoodbye: boolean) => void;
  /** Hears of a WRITE, WRITE_ZEROES or TRIM that is refused because it does not fit the disk: the client is told, and may not look. */
  readonly onRefused?: (change: RefusedChange) => void;
  /** Bytes, a power of 2 from 512 on: what requests should be multiples of; 65 536 if left out. */
  readonly preferredBlock?: number;
}

/** What clients are told to keep to. */
export function blockSizeOf({ preferredBlock = 65_536 }: NbdExport): BlockSize {
  return { minimum: 1, preferred: preferredBlock, maximum: DEFAULT_MOST_PAYLOAD };
}
