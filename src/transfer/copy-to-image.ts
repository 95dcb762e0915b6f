// Copies a disk into a new image that is written forward once. The tables are kept by the format's own builder.

import type { DiskReader } from '../disk/disk-reader.ts';
import type { Compression } from '../disk/extent.ts';
import type { ByteSink } from '../plumbing/byte-sink.ts';
import { throwIfCancelled } from '../plumbing/errors.ts';
import type { CopiedBytes, CopyOptions } from './copy-to-disk.ts';
import { NOTHING_EXPECTED } from './expected-view.ts';
import { planUnits, SourceTable } from './plan-units.ts';
import { runTransfer, unitBytesFor } from './run-transfer.ts';
import { OUTCOME, type UnitResult } from './unit.ts';

/** What keeps the tables of the image; qcow2's ImageBuilder is one. */
export interface ImageTables {
  addPlain(cluster: number, hostOffset: number): void;
  addCompressed(cluster: number, hostOffset: number, storedLength: number): void;
  flush(settledBelow: number): Promise<void>;
  finish(): Promise<{ readonly size: number }>;
}

export interface ImageCopyOptions extends CopyOptions {
  readonly tables: ImageTables;
  readonly sink: ByteSink;
  readonly compression: Compression;
}

const COMPRESSION_LEVEL = 1;

/** The image stands alone: what reads as zeros is not stored. The sink is finished, or aborted on failure. */
export async function copyToImage(reader: DiskReader, options: ImageCopyOptions): Promise<CopiedBytes & { readonly size: number }> {
  const { clusterSize, codec, signal, tables, sink } = options;
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
  try {
    await runTransfer(planUnits({ ...plan, ...cancel }), {
      clusterSize,
      codec,
      expected,
      digests: options.view !== undefined,
      output: { kind: 'image', sink, compression: options.compression, level: COMPRESSION_LEVEL },
      disk: reader,
      sources,
      consume: async (result, settledBelow) => {
        addClusters(tables, result, clusterSize);
        await tables.flush(settledBelow);
        copied.bytesRead += result.bytesRead;
        copied.bytesWritten += result.bytesWritten;
        options.onProgress?.(result.offset + result.length, reader.size);
      },
      explain: (failure) => {
        if (failure.op !== 'write') return options.explain(failure);
        const cause = Object.assign(new Error(failure.message), { code: failure.systemCode });
        return sink.direct?.fail(cause) ?? cause;
      },
      ...cancel,
    });
    throwIfCancelled(signal);
    const { size } = await tables.finish();
    options.onProgress?.(reader.size, reader.size);
    return { ...copied, size };
  } catch (error) {
    await sink.abort();
    throw error;
  }
}

function addClusters(tables: ImageTables, result: UnitResult, clusterSize: number): void {
  const first = result.offset / clusterSize;
  for (let index = 0; index < result.outcome.length; index++) {
    const hostOffset = result.hostOffsets[index] ?? 0;
    if (result.outcome[index] === OUTCOME.PLAIN) tables.addPlain(first + index, hostOffset);
    if (result.outcome[index] === OUTCOME.COMPRESSED) tables.addCompressed(first + index, hostOffset, result.storedLengths[index] ?? 0);
  }
}
