// Where a disk is restored to: a file this run made, a device, an NBD export.

export interface DiskWriter {
  readonly name: string;
  /** A descriptor that any thread of this process may `pwrite` to; absent where bytes go over a socket. */
  readonly fd?: number;
  /** Is everything not yet written known to read as zeros (a file this run made)? */
  readonly startsZero: boolean;
  /** When it has thrown, something may still read from the buffer: it is used for nothing else then. */
  write(buffer: Uint8Array, offset: number): Promise<void>;
  /** Makes the range read as zeros. */
  zero(offset: number, length: number): Promise<void>;
  /** The error to report for a write that failed in a thread. `end`: where the writes that were begun would have ended. */
  explain(error: unknown, end?: number): unknown;
  /** Durable and, for a file, visible under its name. */
  finish(): Promise<void>;
  /** Gives back everything this run made. */
  abort(): Promise<void>;
}
