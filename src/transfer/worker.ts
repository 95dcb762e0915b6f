// The worker thread of a transfer: takes units, runs them, answers results. Everything in it is synchronous.

import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { parentPort } from 'node:worker_threads';
import { loadBlake3 } from '../plumbing/blake3.ts';
import { loadCrc32c } from '../plumbing/crc32c.ts';
import { systemCode } from '../plumbing/errors.ts';
import { readFully, writeFully } from './full-io.ts';
import { mustStop, ServedClient, ServedRequestFailed } from './served-io.ts';
import type { ClusterCodec, FromWorker, OutputSetup, ToWorker, UnitResult, WorkerFailure, WorkerSetup, WorkOrder } from './unit.ts';
import { UnitFailure, type UnitIo, UnitRunner } from './unit-runner.ts';

// How many finished units may wait for their packed run to fill before it is written half full. Bounds what the main
// thread must hold back to keep the order of the guest.
const MOST_WAITING = 256;

const parent = parentPort;
if (!parent) throw new Error('worker.ts runs only as a worker thread');
const port = parent;
const blake3 = await loadBlake3();
const crc32c = loadCrc32c();

/** The transfer this thread works on; threads are used for one after the other. */
interface Work {
  readonly runner: UnitRunner;
  readonly shared: SharedArrayBuffer;
  readonly sources: Map<number, number | undefined>;
}

let work: Work | undefined;
let failed = false;

port.on('message', (message: ToWorker) => {
  // What was on its way when this thread gave up still arrives; a request of it would never be answered.
  if (failed) return;
  try {
    if ('setup' in message) work = begin(message.setup);
    else if ('flush' in message) flush();
    else if ('end' in message) end();
    else order(message.order);
  } catch (error) {
    // The main thread has the reason of a served request already.
    failed = true;
    if (!(error instanceof ServedRequestFailed || causeOf(error) instanceof ServedRequestFailed)) post({ failed: describe(error) });
    port.close();
  }
});

function begin(setup: WorkerSetup): Work {
  const sources = new Map<number, number | undefined>();
  const served = new ServedClient(setup.shared, (request) => post({ request }));
  const io = openIo(setup.output, sources, served);
  return { sources, shared: setup.shared, runner: new UnitRunner(setup, io, { blake3, crc32c, codec: lazyCodec(setup.codec) }) };
}

function order({ units, sources: named }: WorkOrder): void {
  if (!work) throw new Error('units came before the setup');
  for (const [index, fd] of named) work.sources.set(index, fd);
  for (const unit of units) {
    if (mustStop(work.shared)) return;
    work.runner.run(unit);
    if (work.runner.waiting > MOST_WAITING) work.runner.flush();
  }
  answer(units.length, work.runner.take());
}

function flush(): void {
  work?.runner.flush();
  answer(0, work?.runner.take() ?? []);
}

function end(): void {
  if (work && !mustStop(work.shared)) flush();
  work = undefined;
  post({ ended: true });
}

/** The arrays of a result share one buffer, which moves over instead of being copied. */
function answer(settled: number, results: readonly UnitResult[]): void {
  const message: FromWorker = { settled, results };
  port.postMessage(
    message,
    results.map((result) => result.outcome.buffer),
  );
}

function openIo(output: OutputSetup, sources: ReadonlyMap<number, number | undefined>, served: ServedClient): UnitIo {
  const target = output.kind === 'none' ? {} : output.target;
  const { fd, next } = target;
  return {
    read(source, buffer, offset) {
      const descriptor = sources.get(source);
      if (descriptor === undefined) served.read(source, buffer, offset);
      else readFully(descriptor, buffer, offset);
    },
    append(buffers) {
      if (fd === undefined || next === undefined) return served.append(buffers);
      let length = 0;
      for (const buffer of buffers) length += buffer.length;
      const offset = Number(Atomics.add(next, 0, BigInt(length)));
      writeFully(fd, buffers, offset);
      return offset;
    },
    write(buffers, offset) {
      if (fd === undefined) served.write(buffers, offset);
      else writeFully(fd, buffers, offset);
    },
  };
}

interface CodecModule {
  createClusterCodec(): ClusterCodec;
}

let codec: { readonly url: string; readonly codec: ClusterCodec } | undefined;

/** The codec loads foreign functions; a transfer that meets no compressed cluster does not pay for them. */
function lazyCodec(url: string): ClusterCodec {
  const open = (): ClusterCodec => {
    if (codec?.url !== url) {
      const module: CodecModule = createRequire(import.meta.url)(fileURLToPath(url));
      codec = { url, codec: module.createClusterCodec() };
    }
    return codec.codec;
  };
  return {
    decompress: (compression, stored, output) => open().decompress(compression, stored, output),
    compressZstd: (cluster, output, level) => open().compressZstd(cluster, output, level),
    compressZlib: (cluster, output, level) => open().compressZlib(cluster, output, level),
  };
}

function post(message: FromWorker): void {
  port.postMessage(message);
}

function causeOf(error: unknown): unknown {
  return error instanceof Error ? error.cause : undefined;
}

function describe(error: unknown): WorkerFailure {
  const message = error instanceof Error ? error.message : String(error);
  const code = systemCode(error) ?? systemCode(causeOf(error));
  const failure =
    error instanceof UnitFailure ? { op: error.op, offset: error.offset, source: error.source } : { op: 'other' as const, offset: 0 };
  return { ...failure, message, ...(code === undefined ? {} : { systemCode: code }) };
}
