// `nbd copy`: a disk from an export or a raw file to an export or a new raw file, by the copy engine that backups use.

import { resolve } from 'node:path';
import type { DiskReader } from '../../../disk/disk-reader.ts';
import type { DiskWriter } from '../../../disk/disk-writer.ts';
import { openTarget } from '../../../disk/open-target.ts';
import { openRawReader } from '../../../disk/raw-file-reader.ts';
import { isNbdAddress } from '../../../nbd/client/address.ts';
import { openNbdReader } from '../../../nbd/client/nbd-reader.ts';
import { openNbdWriter } from '../../../nbd/client/nbd-writer.ts';
import { ChainkeepError } from '../../../plumbing/errors.ts';
import { openFileSource } from '../../../plumbing/file-source.ts';
import { CLUSTER_CODEC_URL } from '../../../qcow2/cluster-codec-url.ts';
import { DEFAULT_CLUSTER_SIZE } from '../../../qcow2/image-layout.ts';
import { copyToDisk } from '../../../transfer/copy-to-disk.ts';
import type { WorkerFailure } from '../../../transfer/unit.ts';
import { type CliContext, printDone } from '../../cli-context.ts';
import { safeText } from '../../safe-text.ts';
import { formatSize } from '../../size-text.ts';
import { withWatch } from '../../with-app.ts';

export interface CopyChoice {
  readonly source: string;
  readonly target: string;
  readonly force: boolean;
  readonly targetIsZero: boolean;
}

export async function copyDisk(context: CliContext, choice: CopyChoice): Promise<void> {
  if (!isNbdAddress(choice.source) && !isNbdAddress(choice.target))
    throw new ChainkeepError('USAGE', 'neither the source nor the target is the address of an export', {
      advice: 'to copy files there is: chainkeep image convert',
    });
  const { size, copied, target } = await withWatch(context, async ({ signal, onProgress }) => {
    const cancel = signal ? { signal } : {};
    const disk = await openSource(choice.source, cancel);
    try {
      const writer = await openWriter(choice, disk.size, cancel);
      const done = await copyToDisk(disk, writer, {
        clusterSize: DEFAULT_CLUSTER_SIZE,
        codec: CLUSTER_CODEC_URL,
        explain: (failure) => explainFailure(failure, disk.name),
        onProgress: (bytes, total) => onProgress?.({ phase: 'copy', done: bytes, total }),
        ...cancel,
      });
      return { size: disk.size, copied: done, target: writer.name };
    } finally {
      await disk.close();
    }
  });
  const answer = { target, total_bytes: size, bytes_read: copied.bytesRead, bytes_written: copied.bytesWritten };
  printDone(
    context,
    answer,
    () => `${safeText(target)} is written: ${formatSize(size)} disk, ${formatSize(copied.bytesWritten)} written\n`,
  );
}

async function openSource(place: string, cancel: { readonly signal?: AbortSignal }): Promise<DiskReader> {
  if (isNbdAddress(place)) return openNbdReader(place, cancel);
  return openRawReader(await openFileSource(resolve(place)));
}

function openWriter(
  { target, force, targetIsZero }: CopyChoice,
  size: number,
  cancel: { readonly signal?: AbortSignal },
): Promise<DiskWriter> {
  if (isNbdAddress(target)) return openNbdWriter(target, { size, startsZero: targetIsZero, ...cancel });
  return openTarget({ path: resolve(target), format: 'raw', force }, size);
}

function explainFailure(failure: WorkerFailure, source: string): ChainkeepError {
  return new ChainkeepError('SOURCE_UNREADABLE', `${source} cannot be read at ${failure.offset}: ${failure.message}`, {
    advice: 'check the disk it lies on',
    context: { path: source, offset: failure.offset, system_code: failure.systemCode },
  });
}
