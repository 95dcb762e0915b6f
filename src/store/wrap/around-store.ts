// What every wrapper is made of: a store each of whose calls goes through one function. What a wrapper does not ask for passes as it is.
// It must not do anything by itself: a store that is wrapped with nothing behaves like the one inside.

import type { ByteSink, DirectAppend } from '../../plumbing/byte-sink.ts';
import type { ByteSource } from '../../plumbing/byte-source.ts';
import type { BlobInfo, BlobStore } from '../blob-store.ts';

export type StoreOperation =
  | 'list'
  | 'stat'
  | 'open'
  | 'read'
  | 'put'
  | 'append'
  | 'finish'
  | 'abort'
  | 'delete'
  | 'protect'
  | 'protectionOf'
  | 'release'
  | 'sweep'
  | 'capacity'
  | 'now';

export interface StoreCall {
  readonly operation: StoreOperation;
  /** The blob, or the beginning of names; '' for the whole store. */
  readonly name: string;
  /** That a read or an append moves; 0 of all others. */
  readonly bytes: number;
}

export interface Wrapping {
  /** Does the call; `act` may be called again only where that is safe. */
  around<Result>(call: StoreCall, act: () => Promise<Result>): Promise<Result>;
  /** Default: through `around`, as all others. */
  delete?(name: string): Promise<void>;
  close?(): Promise<void>;
  /** Default: as the store lists. */
  list?(prefix: string, list: () => AsyncIterable<BlobInfo>): AsyncIterable<BlobInfo>;
  /** What threads get to write by themselves; default: what the store gives. Undefined: every write goes through `around`. */
  direct?(direct: DirectAppend, name: string): DirectAppend | undefined;
  /** The same of a descriptor to read from. */
  readable?(source: ByteSource): Pick<ByteSource, 'fd' | 'pace'>;
  /** A blob is there: its size, and how much of it came by `append`; the rest is its head, and what threads wrote by themselves. */
  finished?(name: string, size: number, appended: number): void;
}

export function aroundStore(inner: BlobStore, wrapping: Wrapping): BlobStore {
  const around = <Result>(operation: StoreOperation, name: string, act: () => Promise<Result>): Promise<Result> =>
    wrapping.around({ operation, name, bytes: 0 }, act);
  return {
    place: inner.place,
    // Asked each time: some of them are known only when they were tried.
    get capabilities() {
      return inner.capabilities;
    },
    list: (prefix) => (wrapping.list ? wrapping.list(prefix, () => inner.list(prefix)) : inner.list(prefix)),
    stat: (name) => around('stat', name, () => inner.stat(name)),
    open: async (name) => aroundSource(await around('open', name, () => inner.open(name)), wrapping),
    put: async (name, options) => aroundSink(await around('put', name, () => inner.put(name, options)), wrapping),
    delete: (name) => (wrapping.delete ? wrapping.delete(name) : around('delete', name, () => inner.delete(name))),
    protect: (name, protection) => around('protect', name, () => inner.protect(name, protection)),
    protectionOf: (name) => around('protectionOf', name, () => inner.protectionOf(name)),
    release: (name) => around('release', name, () => inner.release(name)),
    sweep: (prefix, isDead) => around('sweep', prefix, () => inner.sweep(prefix, isDead)),
    capacity: () => around('capacity', '', () => inner.capacity()),
    now: () => around('now', '', () => inner.now()),
    close: () => (wrapping.close ? wrapping.close() : inner.close()),
  };
}

function aroundSource(inner: ByteSource, wrapping: Wrapping): ByteSource {
  return {
    name: inner.name,
    size: inner.size,
    ...(inner.intoShared && { intoShared: true }),
    ...(wrapping.readable ? wrapping.readable(inner) : descriptorOf(inner)),
    read: (buffer, offset) =>
      wrapping.around({ operation: 'read', name: inner.name, bytes: buffer.byteLength }, () => inner.read(buffer, offset)),
    close: () => inner.close(),
  };
}

function descriptorOf({ fd, pace }: ByteSource): Pick<ByteSource, 'fd' | 'pace'> {
  return { ...(fd !== undefined && { fd }), ...(pace && { pace }) };
}

function aroundSink(inner: ByteSink, wrapping: Wrapping): ByteSink {
  const { name } = inner;
  const direct = inner.direct && wrapping.direct ? wrapping.direct(inner.direct, name) : inner.direct;
  let appended = 0;
  return {
    name,
    ...(direct && { direct }),
    append: (buffers) => {
      const bytes = buffers.reduce((sum, buffer) => sum + buffer.byteLength, 0);
      return wrapping.around({ operation: 'append', name, bytes }, async () => {
        const offset = await inner.append(buffers);
        appended += bytes;
        return offset;
      });
    },
    finish: (head) =>
      wrapping.around({ operation: 'finish', name, bytes: 0 }, async () => {
        const done = await inner.finish(head);
        wrapping.finished?.(name, done.size, appended);
        return done;
      }),
    abort: () => wrapping.around({ operation: 'abort', name, bytes: 0 }, () => inner.abort()),
  };
}
