// A worker thread of the conformance suite: claims runs of a blob by itself and writes them, as the copy engine's workers do.

import { writeSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import type { DirectAppend } from '../../plumbing/byte-sink.ts';

export interface DirectWriterInput {
  readonly direct: Pick<DirectAppend, 'fd' | 'next'>;
  /** The byte that this worker's runs are made of. */
  readonly fill: number;
  readonly runs: number;
  readonly runLength: number;
}

const { direct, fill, runs, runLength } = workerData as DirectWriterInput;
const run = new Uint8Array(runLength).fill(fill);
const offsets: number[] = [];
for (let count = 0; count < runs; count += 1) {
  const offset = Number(Atomics.add(direct.next, 0, BigInt(runLength)));
  for (let done = 0; done < runLength; ) done += writeSync(direct.fd, run, done, runLength - done, offset + done);
  offsets.push(offset);
}
parentPort?.postMessage(offsets);
