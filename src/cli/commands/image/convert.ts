// `image convert`: an image in another format. The target is a new file that exists whole or not at all, or a device.

import type { DiskReader } from '../../../disk/disk-reader.ts';
import type { Compression } from '../../../disk/extent.ts';
import { openTarget } from '../../../disk/open-target.ts';
import { overlay } from '../../../disk/overlay.ts';
import { openWriterSink } from '../../../disk/writer-sink.ts';
import { loadBlake3 } from '../../../plumbing/blake3.ts';
import { ChainkeepError } from '../../../plumbing/errors.ts';
import { CLUSTER_CODEC_URL } from '../../../qcow2/cluster-codec-url.ts';
import { ImageBuilder } from '../../../qcow2/image-builder.ts';
import { DEFAULT_CLUSTER_SIZE, planLayout } from '../../../qcow2/image-layout.ts';
import { type ImageFormat, openImageFile } from '../../../qcow2/open-image-file.ts';
import { type CopiedBytes, type CopyOptions, copyToDisk } from '../../../transfer/copy-to-disk.ts';
import { copyToImage } from '../../../transfer/copy-to-image.ts';
import type { WorkerFailure } from '../../../transfer/unit.ts';
import { type CliContext, printDone } from '../../cli-context.ts';
import { safeText } from '../../safe-text.ts';
import { formatSize } from '../../size-text.ts';
import { withWatch } from '../../with-app.ts';

export interface ConvertChoice {
  readonly source: string;
  readonly sourceFormat: ImageFormat;
  readonly withBacking: boolean;
  readonly target: string;
  readonly format: ImageFormat;
  readonly compression: Compression;
  readonly force: boolean;
}

export async function convertImage(context: CliContext, choice: ConvertChoice): Promise<void> {
  const { size, copied } = await withWatch(context, async (watch) => {
    const { layers, warnings } = await openImageFile(choice.source, choice.sourceFormat, choice.withBacking ? 'same-folder' : 'refuse');
    for (const warning of warnings) watch.onNotice?.(warning);
    const disk = overlay(layers);
    try {
      const options: CopyOptions = {
        clusterSize: DEFAULT_CLUSTER_SIZE,
        codec: CLUSTER_CODEC_URL,
        explain: (failure) => explainFailure(failure, choice.source),
        ...(watch.signal && { signal: watch.signal }),
        onProgress: (done, total) => watch.onProgress?.({ phase: 'convert', done, total }),
      };
      return { size: disk.size, copied: await copy(disk, choice, options) };
    } finally {
      await disk.close();
    }
  });
  const answer = { target: choice.target, total_bytes: size, bytes_read: copied.bytesRead, bytes_written: copied.bytesWritten };
  printDone(
    context,
    answer,
    () => `${safeText(choice.target)} is written: ${formatSize(size)} disk, ${formatSize(copied.bytesWritten)} written\n`,
  );
}

async function copy(disk: DiskReader, choice: ConvertChoice, options: CopyOptions): Promise<CopiedBytes> {
  const request = { path: choice.target, format: choice.format, force: choice.force };
  if (choice.format === 'raw') return copyToDisk(disk, await openTarget(request, disk.size), options);
  const layout = planLayout(disk.size, options.clusterSize);
  const sink = openWriterSink(await openTarget(request, disk.size), layout.headLength);
  const tables = new ImageBuilder({ layout, sink, blake3: await loadBlake3(), compression: choice.compression });
  return copyToImage(disk, { ...options, tables, sink, compression: choice.compression });
}

function explainFailure(failure: WorkerFailure, source: string): ChainkeepError {
  const context = { path: source, guest_offset: failure.offset, system_code: failure.systemCode };
  if (failure.op === 'read') {
    const advice = 'check the disk it lies on';
    return new ChainkeepError('SOURCE_UNREADABLE', `${source} cannot be read for guest offset ${failure.offset}: ${failure.message}`, {
      advice,
      context,
    });
  }
  const advice = 'the image is damaged: take it from another copy';
  return new ChainkeepError('QCOW2_INVALID', `${source} is damaged at guest offset ${failure.offset}: ${failure.message}`, {
    advice,
    context,
  });
}
