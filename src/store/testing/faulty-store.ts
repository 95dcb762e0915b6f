// A wrapper that fails the Nth operation of a store, for fault loops: N = 1, 2, 3 … until a run completes untouched.
// Everything goes through it: it gives no descriptors, so whoever uses it cannot read or write past it.

import type { ByteSink } from '../../plumbing/byte-sink.ts';
import type { ByteSource } from '../../plumbing/byte-source.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
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

export interface FaultPlan {
  /** Which operation fails; the first is 1. */
  readonly failAt: number;
  /** That one and every later one, as after a crash or with a dead disk; default: only that one. */
  readonly sticky?: boolean;
  /** Only these are counted and can fail; default: all. */
  readonly operations?: readonly StoreOperation[];
  /**
   * `before` (default): nothing happens but the error. `after`: it is done, and then reported as failed (a lost answer).
   * `torn`: an append writes its first half, a list answers its first blob; all others as `before`.
   */
  readonly effect?: 'before' | 'after' | 'torn';
  /** What is thrown; default: STORE_FAILED. */
  readonly error?: (operation: StoreOperation, target: string) => Error;
}

export interface FaultyStore {
  readonly store: BlobStore;
  /** Every counted operation so far, such as `append vms/a/disk-0/x.qcow2`; a fault was injected when there are at least `failAt`. */
  readonly operations: readonly string[];
}

/** What a fault kept from being closed, as after a crash. Held for as long as the process lives, so that no garbage collection closes it. */
const abandoned: unknown[] = [];

type Verdict = 'pass' | 'before' | 'after' | 'torn';

class Faults {
  readonly operations: string[] = [];
  readonly #plan: FaultPlan;

  constructor(plan: FaultPlan) {
    this.#plan = plan;
  }

  judge(operation: StoreOperation, target: string): Verdict {
    if (this.#plan.operations && !this.#plan.operations.includes(operation)) return 'pass';
    this.operations.push(`${operation} ${target}`.trimEnd());
    const count = this.operations.length;
    const hit = this.#plan.sticky ? count >= this.#plan.failAt : count === this.#plan.failAt;
    return hit ? (this.#plan.effect ?? 'before') : 'pass';
  }

  error(operation: StoreOperation, target: string): Error {
    return (
      this.#plan.error?.(operation, target) ??
      new ChainkeepError('STORE_FAILED', `injected fault ${this.operations.length}: ${operation} ${target}`)
    );
  }

  /** `torn` is what happens of the operation when it is torn; without it nothing does. */
  async run<Result>(operation: StoreOperation, target: string, act: () => Promise<Result>, torn?: () => Promise<unknown>): Promise<Result> {
    const verdict = this.judge(operation, target);
    if (verdict === 'pass') return act();
    if (verdict === 'after') abandoned.push(await act());
    if (verdict === 'torn') await torn?.();
    throw this.error(operation, target);
  }
}

/** Wraps `inner`; it is the caller's to close. */
export function faultyStore(inner: BlobStore, plan: FaultPlan): FaultyStore {
  const faults = new Faults(plan);
  const store: BlobStore = {
    place: inner.place,
    capabilities: inner.capabilities,
    list: (prefix) => faultyList(inner, prefix, faults),
    stat: (name) => faults.run('stat', name, () => inner.stat(name)),
    open: (name) => faults.run('open', name, async () => faultySource(await inner.open(name), faults)),
    put: (name, options) => faults.run('put', name, async () => faultySink(await inner.put(name, options), faults)),
    delete: (name) => faults.run('delete', name, () => inner.delete(name)),
    protect: (name, protection) => faults.run('protect', name, () => inner.protect(name, protection)),
    protectionOf: (name) => faults.run('protectionOf', name, () => inner.protectionOf(name)),
    release: (name) => faults.run('release', name, () => inner.release(name)),
    sweep: (prefix, isDead) => faults.run('sweep', prefix, () => inner.sweep(prefix, isDead)),
    capacity: () => faults.run('capacity', '', () => inner.capacity()),
    now: () => faults.run('now', '', () => inner.now()),
    close: () => inner.close(),
  };
  return { store, operations: faults.operations };
}

async function* faultyList(inner: BlobStore, prefix: string, faults: Faults): AsyncGenerator<BlobInfo> {
  const verdict = faults.judge('list', prefix);
  if (verdict === 'before') throw faults.error('list', prefix);
  for await (const blob of inner.list(prefix)) {
    yield blob;
    if (verdict === 'torn') break;
  }
  if (verdict !== 'pass') throw faults.error('list', prefix);
}

function faultySource(inner: ByteSource, faults: Faults): ByteSource {
  return {
    name: inner.name,
    size: inner.size,
    read: (buffer, offset) => faults.run('read', inner.name, () => inner.read(buffer, offset)),
    close: () => inner.close(),
  };
}

function faultySink(inner: ByteSink, faults: Faults): ByteSink {
  let failure: unknown;
  const sticky = async <Result>(act: () => Promise<Result>): Promise<Result> => {
    if (failure !== undefined) throw failure; // the contract of a sink: after a failed write nothing succeeds
    try {
      return await act();
    } catch (error) {
      failure = error;
      throw error;
    }
  };
  return {
    name: inner.name,
    append: (buffers) =>
      sticky(() =>
        faults.run(
          'append',
          inner.name,
          () => inner.append(buffers),
          () => inner.append(firstHalf(buffers)),
        ),
      ),
    finish: (head) => sticky(() => faults.run('finish', inner.name, () => inner.finish(head))),
    abort: () =>
      faults
        .run('abort', inner.name, () => inner.abort())
        .catch((error: unknown) => {
          abandoned.push(inner);
          throw error;
        }),
  };
}

function firstHalf(buffers: readonly Uint8Array[]): readonly Uint8Array[] {
  const bytes = Buffer.concat(buffers);
  return [bytes.subarray(0, bytes.byteLength >> 1)];
}
