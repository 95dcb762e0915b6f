// The read side of a blob or a file: bytes at offsets.

export interface ByteSource {
  /** Bytes, fixed for as long as it is open. */
  readonly size: number;
  /** What errors call it: a path or a blob's name. */
  readonly name: string;
  /** A file descriptor that any thread of this process may `pread` from; absent where bytes come over a socket or through a wrapper. */
  readonly fd?: number;
  /** There where the store may become limited: answers until when no thread is told to read so many bytes through `fd`. */
  pace?(bytes: number): Promise<void> | undefined;
  /** May the buffer of `read` be shared memory? System calls and native modules want memory of their own. */
  readonly intoShared?: boolean;
  /** Fills the whole buffer from `offset`, or throws; never a short read. When it has ended, either way, nothing writes into the buffer any more. */
  read(buffer: Uint8Array, offset: number): Promise<void>;
  close(): Promise<void>;
}
