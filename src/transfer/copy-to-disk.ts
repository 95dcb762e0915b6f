// Copies a disk to a target: a file, a device, an NBD export. With a record of what it must read as, every cluster is checked on the way.

import type { DiskReader } from '../disk/disk-reader.ts';
import type { DiskWriter } from '../disk/disk-writer.ts';
import { throwIfCancelled } from '../plumbing/errors.ts';
import { type ExpectedView, NOTHING_EXPECTED } from './expected-view.ts';
import { planUnits, SourceTable } from './plan-units.ts';
import { runTransfer, unitBytesFor } from './run-transfer.ts';
import type { WorkerFailure } from './unit.ts';

export interface CopyOptions {
  readonly clusterSize: number;
  /** URL of the module that exports `createClusterCodec`. */
  readonly codec: string;
  /** What the disk must read as; without it nothing is checked. */
  readonly view?: ExpectedView;
  /** The error for a cluster that cannot be read, expanded, or is not as recorded. */
  readonly explain: (failure: WorkerFailure) => unknown;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

export interface CopiedBytes {
  readonly bytesRead: number;
  readonly bytesWritten: number;
}

/** What reads as zeros is written as zeros, except to a target that starts as zeros. The writer is finished, or given back on failure. */
export async function copyToDisk(reader: DiskReader, writer: DiskWriter, options: CopyOptions): Promise<CopiedBytes> {
  const { clusterSize, codec, signal } = options;
  const sources = new SourceTable();
  const expected = options.view ? 'require' : 'ignore';
  const cancel = signal ? { signal } : {};
  const plan = {
    reader,
    clusterSize,
    unitBytes: unitBytesFor(clusterSize),
    view: options.view ?? NOTHING_EXPECTED,
    expected,
    sources,
  } as const;
  const copied = { bytesRead: 0, bytesWritten: 0 };
  let settled = 0;
  const settle = async (offset: number, end: number): Promise<void> => {
    if (offset > settled && !writer.startsZero) await writer.zero(settled, offset - settled);
    settled = end;
  };
  try {
    await runTransfer(planUnits({ ...plan, ...cancel }), {
      clusterSize,
      codec,
      expected,
      digests: options.view !== undefined,
      output: { kind: 'disk', writer },
      disk: reader,
      sources,
      consume: async (result) => {
        await settle(result.offset, result.offset + result.length);
        copied.bytesRead += result.bytesRead;
        copied.bytesWritten += result.bytesWritten;
        options.onProgress?.(settled, reader.size);
      },
      explain: (failure) => {
        if (failure.op !== 'write') return options.explain(failure);
        return writer.explain(Object.assign(new Error(failure.message), { code: failure.systemCode }));
      },
      ...cancel,
    });
    throwIfCancelled(signal);
    await settle(reader.size, reader.size);
    await writer.finish();
  } catch (error) {
    await writer.abort();
    throw error;
  }
  options.onProgress?.(reader.size, reader.size);
  return copied;
}
