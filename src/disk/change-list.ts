// What a source itself knows of its changes: since which of its marks, and where.

import type { ByteRange } from './extent.ts';

export interface ChangeList {
  /** What messages call it: `the bitmap b0`. */
  readonly name: string;
  /** Every stretch that may have changed, in ascending order; overlaps are allowed. Asked for once: what it answers is kept. */
  changed(): AsyncIterable<ByteRange>;
}

/** What changed since a mark is only of use for a backup whose parent is the state that has this mark. */
export interface ChangeTracking {
  /** What it can tell, for messages: `the bitmap b0`. */
  readonly name: string;
  /** Everything that changed since the state with this mark, kept as this backup, or undefined where the source cannot tell. */
  since(mark: string, backupId?: string): ChangeList | undefined;
  /**
   * When it was asked what changed, in milliseconds since 1970: of no use for a parent that was begun later, whose mark may be the same. Left out where
   * no two backups have the same mark.
   */
  readonly asOf?: number;
  /** When the parent has another mark: an error, for somebody handed the list over and must know that it is of no use, or all is read and compared. */
  readonly otherwise: 'refuse' | 'compare';
}
