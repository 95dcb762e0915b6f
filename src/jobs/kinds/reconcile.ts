// What a rescan does with one backup, from what the repository holds and what the catalog says. The table of docs/guide/07-catalog.md in code.
// It must not do anything: no I/O, no clock; what is given in decides.

/** `damaged`: there, and cannot be read. */
export type SidecarState = 'valid' | 'damaged' | 'absent';

/** `unended`: pending or running. `failed`: or cancelled. */
export type RowState = 'absent' | 'unended' | 'failed' | 'completed' | 'placeholder';

/** Who makes the backup of an unended row: `unknown` is on another machine and has a lease; `silent` too, and it has run out. */
export type WriterState = 'alive' | 'unknown' | 'silent' | 'dead';

export type Action = 'leave' | 'enter' | 'end' | 'mark missing' | 'mark damaged' | 'hold the place';

/** In which number of the outcome a backup is counted, besides `found` and `damaged`. Entering a completed one changes it only where it differs. */
export type Report = 'in progress' | 'added' | 'changed' | 'missing' | 'if it differs' | 'nothing';

export interface Situation {
  readonly sidecar: SidecarState;
  readonly row: RowState;
  /** Only of an unended row. */
  readonly writer: WriterState;
  /** A delete of it has begun and not ended. */
  readonly beingDeleted: boolean;
}

export interface Outcome {
  readonly action: Action;
  readonly report: Report;
}

export function reconcile({ sidecar, row, writer, beingDeleted }: Situation): Outcome {
  const atWork = row === 'unended' && (writer === 'alive' || writer === 'unknown');
  if (beingDeleted || atWork) return { action: 'leave', report: 'in progress' };
  if (sidecar === 'valid') return { action: 'enter', report: VALID[row] };
  return sidecar === 'damaged' ? DAMAGED[row] : ABSENT[row];
}

const VALID: Readonly<Record<RowState, Report>> = {
  absent: 'added',
  placeholder: 'added',
  unended: 'changed',
  failed: 'changed',
  completed: 'if it differs',
};

/** A sidecar is written in one step: where there is a damaged one, there was a backup. */
const DAMAGED: Readonly<Record<RowState, Outcome>> = {
  absent: { action: 'hold the place', report: 'nothing' },
  placeholder: { action: 'leave', report: 'nothing' },
  unended: { action: 'hold the place', report: 'nothing' },
  failed: { action: 'leave', report: 'nothing' },
  completed: { action: 'mark damaged', report: 'nothing' },
};

const ABSENT: Readonly<Record<RowState, Outcome>> = {
  absent: { action: 'leave', report: 'nothing' },
  placeholder: { action: 'leave', report: 'nothing' },
  unended: { action: 'end', report: 'changed' },
  failed: { action: 'leave', report: 'nothing' },
  completed: { action: 'mark missing', report: 'missing' },
};
