// `image compare`: do two images hold the same disk? A difference is an answer with exit code 1, not an error.

import { overlay } from '../../../disk/overlay.ts';
import { type ImageFormat, openImageFile } from '../../../qcow2/open-image-file.ts';
import { type Comparison, compareDisks } from '../../../transfer/compare-disks.ts';
import { type CliContext, exitAsFailed, printAnswer } from '../../cli-context.ts';
import { withWatch } from '../../with-app.ts';

export interface ImageChoice {
  readonly file: string;
  readonly format: ImageFormat;
}

export async function printImageComparison(context: CliContext, a: ImageChoice, b: ImageChoice, withBacking: boolean): Promise<void> {
  const backing = withBacking ? 'same-folder' : 'refuse';
  const comparison = await withWatch(context, async ({ signal }) => {
    const first = overlay((await openImageFile(a.file, a.format, backing)).layers);
    try {
      const second = overlay((await openImageFile(b.file, b.format, backing)).layers);
      try {
        return await compareDisks(first, second, signal ? { signal } : {});
      } finally {
        await second.close();
      }
    } finally {
      await first.close();
    }
  });
  const { identical, offset, sizes } = comparison;
  printAnswer(context, { identical, ...(offset !== undefined && { offset }), sizes }, () => describe(comparison));
  if (!identical) exitAsFailed();
}

function describe({ identical, offset, sizes: [a, b] }: Comparison): string {
  if (!identical) return `Content mismatch at offset ${offset ?? Math.min(a, b)}!\n`;
  return a === b ? 'Images are identical.\n' : `Images are identical, but one is longer: ${a} and ${b} bytes; the rest reads as zeros.\n`;
}
