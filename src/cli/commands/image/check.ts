// `image check`: the fields of `qemu-img check`. Damage and leaks are an answer with exit code 1, not an error.

import { openFileSource } from '../../../plumbing/file-source.ts';
import { type CheckReport, checkReportFields } from '../../../qcow2/check-report.ts';
import { checkImage } from '../../../qcow2/checker.ts';
import { type CliContext, exitAsFailed, printAnswer } from '../../cli-context.ts';
import { safeText } from '../../safe-text.ts';
import { withWatch } from '../../with-app.ts';

export async function printImageCheck(context: CliContext, file: string): Promise<void> {
  const report = await withWatch(context, async ({ signal }) => {
    const source = await openFileSource(file);
    try {
      return await checkImage(source, signal ? { signal } : {});
    } finally {
      await source.close();
    }
  });
  printAnswer(context, checkReportFields(report), () => renderReport(report));
  if (report.problems.length > 0) exitAsFailed();
}

function renderReport(report: CheckReport): string {
  const problems = report.problems.map((problem) => `${problem.kind}: ${safeText(problem.message)}\n`).join('');
  const count = report.corruptions + report.leaks + report.checkErrors;
  const more = count > report.problems.length ? `… and ${count - report.problems.length} more\n` : '';
  return `${problems}${more}${verdict(report)}${usage(report)}Image end offset: ${report.imageEndOffset}\n`;
}

function verdict({ corruptions, leaks, checkErrors }: CheckReport): string {
  if (corruptions + leaks + checkErrors === 0) return 'No errors were found on the image.\n';
  const found = [
    corruptions > 0 ? `${corruptions} errors: data may be lost` : '',
    leaks > 0 ? `${leaks} leaked clusters: room is wasted, no data is lost` : '',
    checkErrors > 0 ? `${checkErrors} parts could not be checked` : '',
  ];
  return `Found ${found.filter((text) => text !== '').join('; ')}.\n`;
}

function usage(report: CheckReport): string {
  const percent = (part: number, whole: number) => `${whole === 0 ? '0.00' : ((100 * part) / whole).toFixed(2)}%`;
  const { allocatedClusters, totalClusters, fragmentedClusters, compressedClusters } = report;
  return (
    `${allocatedClusters}/${totalClusters} = ${percent(allocatedClusters, totalClusters)} allocated, ` +
    `${percent(fragmentedClusters, allocatedClusters)} fragmented, ${percent(compressedClusters, allocatedClusters)} compressed clusters\n`
  );
}
