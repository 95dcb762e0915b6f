// Gives a restore point back: every cluster is checked on its way from the images to the target.

import type { DiskWriter } from '../disk/disk-writer.ts';
import { openWriterSink } from '../disk/writer-sink.ts';
import { loadBlake3 } from '../plumbing/blake3.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import { CLUSTER_CODEC_URL } from '../qcow2/cluster-codec-url.ts';
import { ImageBuilder } from '../qcow2/image-builder.ts';
import { planLayout } from '../qcow2/image-layout.ts';
import { type CopiedBytes, type CopyOptions, copyToDisk } from '../transfer/copy-to-disk.ts';
import { copyToImage } from '../transfer/copy-to-image.ts';
import { RANGE_CLUSTERS } from '../transfer/expected-view.ts';
import type { WorkerFailure } from '../transfer/unit.ts';
import type { OpenedBackup } from './open-backup.ts';

export interface RestoreRun {
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Writes the disk to `writer`, raw or as a QCOW2 image that stands alone; the writer is finished on success and given back on failure.
 * Throws DIGEST_MISMATCH with backup and guest offset where a cluster is not what was backed up.
 */
export async function restoreBackup(
  backup: OpenedBackup,
  writer: DiskWriter,
  format: 'raw' | 'qcow2',
  run: RestoreRun,
): Promise<CopiedBytes> {
  const { reader, view, sidecar } = backup;
  const options: CopyOptions = {
    clusterSize: sidecar.qcow2.cluster_size,
    codec: CLUSTER_CODEC_URL,
    view,
    explain: (failure) => explainFailure(failure, backup),
    ...run,
  };
  if (format === 'raw') return copyToDisk(reader, writer, options);
  const layout = planLayout(reader.size, options.clusterSize);
  const sink = openWriterSink(writer, layout.headLength);
  const tables = new ImageBuilder({ layout, sink, blake3: await loadBlake3(), compression: 'none' });
  return copyToImage(reader, { ...options, tables, sink, compression: 'none' });
}

async function explainFailure(failure: WorkerFailure, backup: OpenedBackup): Promise<ChainkeepError> {
  const backupId = await deciderOf(backup, failure.offset);
  const context = { backup_id: backupId, guest_offset: failure.offset, system_code: failure.systemCode };
  if (failure.op === 'digest' || failure.op === 'expand') {
    return new ChainkeepError('DIGEST_MISMATCH', `backup ${backupId} is damaged at guest offset ${failure.offset}: ${failure.message}`, {
      advice: 'verify names everything that is damaged; restore an earlier or later point, or from a copy',
      context,
    });
  }
  if (failure.op === 'read') {
    return new ChainkeepError(
      'STORE_FAILED',
      `backup ${backupId} could not be read at guest offset ${failure.offset}: ${failure.message}`,
      {
        advice: 'check the storage of the repository',
        context,
      },
    );
  }
  return new ChainkeepError('INTERNAL', `internal error at guest offset ${failure.offset}: ${failure.message}`, { context });
}

/** The backup of the chain that holds the cluster: its image is the damaged one, which need not be that of the restore point. */
async function deciderOf({ view, chain, sidecar }: OpenedBackup, guestOffset: number): Promise<string> {
  const cluster = Math.floor(guestOffset / sidecar.qcow2.cluster_size);
  const range = await view.range(Math.floor(cluster / RANGE_CLUSTERS));
  const decider = range?.deciders[cluster % RANGE_CLUSTERS] ?? 0;
  return chain[decider - 1]?.backup_id ?? sidecar.backup_id;
}
