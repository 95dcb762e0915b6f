// What a check found: counts, and the first problems in words.
// Counts are exact; the list of problems is cut, because a damaged table can hold millions.

/** `leak`: room that nothing uses. `corruption`: data may be lost. `unchecked`: a part could not be looked at. */
export type ProblemKind = 'leak' | 'corruption' | 'unchecked';

export interface CheckProblem {
  readonly kind: ProblemKind;
  readonly message: string;
}

export interface CheckReport {
  readonly filename: string;
  readonly corruptions: number;
  /** Clusters. */
  readonly leaks: number;
  /** Parts that could not be checked. */
  readonly checkErrors: number;
  /** Clusters of the virtual disk. */
  readonly totalClusters: number;
  readonly allocatedClusters: number;
  readonly compressedClusters: number;
  readonly fragmentedClusters: number;
  /** Bytes: the end of the last cluster that is used or counted. */
  readonly imageEndOffset: number;
  /** The first thousand. */
  readonly problems: readonly CheckProblem[];
}

const MOST_PROBLEMS = 1000;

export class CheckFindings {
  corruptions = 0;
  leaks = 0;
  checkErrors = 0;
  allocatedClusters = 0;
  compressedClusters = 0;
  fragmentedClusters = 0;
  /** Number of the last cluster that is used or counted, -1 where there is none. */
  lastCluster = -1;
  readonly problems: CheckProblem[] = [];

  add(kind: ProblemKind, message: string, count = 1): void {
    if (kind === 'leak') this.leaks += count;
    else if (kind === 'corruption') this.corruptions += count;
    else this.checkErrors += count;
    if (this.problems.length < MOST_PROBLEMS) this.problems.push({ kind, message });
  }
}

/** The report as `qemu-img check --output=json` prints it, which leaves out what is zero, with our problems behind it. */
export function checkReportFields(report: CheckReport): Record<string, unknown> {
  const counts = {
    corruptions: report.corruptions,
    leaks: report.leaks,
    'allocated-clusters': report.allocatedClusters,
    'compressed-clusters': report.compressedClusters,
    'fragmented-clusters': report.fragmentedClusters,
    'total-clusters': report.totalClusters,
    'image-end-offset': report.imageEndOffset,
  };
  return {
    filename: report.filename,
    format: 'qcow2',
    'check-errors': report.checkErrors,
    ...Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0)),
    ...(report.problems.length > 0 && { problems: report.problems }),
  };
}
