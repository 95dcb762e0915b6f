// The write side of a blob: forward once, the first `headLength` bytes last, and only `finish` makes the blob exist.

export interface ByteSink {
  readonly name: string;
  /** Set where any thread of this process may claim a place and `pwrite` by itself; see {@link DirectAppend}. */
  readonly direct?: DirectAppend;
  /** Appends the buffers as one run and answers the offset of its first byte. Calls may overlap; each run is contiguous. */
  append(buffers: readonly Uint8Array[]): Promise<number>;
  /** Writes the head (exactly `headLength` bytes), makes everything durable, and then makes the blob visible in one step. */
  finish(head: Uint8Array): Promise<{ size: number }>;
  /** Gives back everything; safe to call at any time, also after a failed `finish`. */
  abort(): Promise<void>;
}

/**
 * How a worker thread appends without asking: `Atomics.add(next, 0, BigInt(length))` claims a run, `pwrite(fd)` fills it.
 * Every claimed byte must be written before `finish`. No thread may use `fd` any more when `finish` or `abort` is called: a closed number is given to
 * the next file that is opened.
 */
export interface DirectAppend {
  readonly fd: number;
  /** One BigInt64: the offset of the next free byte. */
  readonly next: BigInt64Array<SharedArrayBuffer>;
  /** A thread's write failed: the sink refuses to finish from now on, and answers the error to report. */
  fail(error: unknown): Promise<unknown>;
  /** There where the store may become limited: answers until when threads are given no more work, after what they have claimed so far. */
  pace?(): Promise<void> | undefined;
}
