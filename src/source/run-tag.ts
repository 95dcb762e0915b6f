// Names for everything that a run makes inside of a QEMU, by which a later run knows what was left behind by one that was killed.

import { readFileSync } from 'node:fs';
import { type Clock, newId } from '../plumbing/clock.ts';
import { systemCode } from '../plumbing/errors.ts';

const PREFIX = 'chainkeep-';
/** Names of nodes have at most 31 characters. */
const NODE_PREFIX = 'ck-';
const TAG = '([0-9a-z]+-[0-9a-z]+)';
const OURS = new RegExp(`^(?:${PREFIX}(?:copy-)?|${NODE_PREFIX})${TAG}-`);
const MARK = new RegExp(`^${PREFIX}${TAG}-\\d{8}t\\d{9}-[0-9a-z]{8}$`);

export interface RunNames {
  /** Process and its start: `3f2a-9k2l1`. */
  readonly tag: string;
  /**
   * Of the bitmap that begins with this run on a disk; the change id of its backup. No other run will ever make the same, and no other disk has it: under
   * a number that has come to stand for another disk, that one's bitmap would be taken for what changed since the backup of this one.
   */
  mark(disk: number): string;
  /** Of the checkpoint that begins with this run, which is of all disks. */
  readonly checkpoint: string;
  /** Of jobs and exports. */
  job(disk: number): string;
  node(disk: number): string;
  /** Of the frozen copy of a bitmap, for the export. */
  copy(disk: number, index: number): string;
}

export function newRunNames(clock: Clock): RunNames {
  const tag = `${process.pid.toString(36)}-${(startOf(process.pid) ?? 0).toString(36)}`;
  const newMark = (): string => `${PREFIX}${tag}-${newId(clock)}`;
  const marks = new Map<number, string>();
  return {
    tag,
    mark: (disk) => {
      const mark = marks.get(disk) ?? newMark();
      marks.set(disk, mark);
      return mark;
    },
    checkpoint: newMark(),
    job: (disk) => `${PREFIX}${tag}-${disk}`,
    node: (disk) => `${NODE_PREFIX}${tag}-${disk}`,
    copy: (disk, index) => `${PREFIX}copy-${tag}-${disk}-${index}`,
  };
}

/** The run that a job, an export, a node, a copy of a bitmap, or a folder belongs to; undefined for what is none of ours. */
export function tagOf(name: string): string | undefined {
  return OURS.exec(name)?.[1];
}

/** Is it a bitmap or a checkpoint that began with a backup of ours? */
export function isMark(name: string): boolean {
  return MARK.test(name);
}

/** Marks in the order in which they were made. */
export function byAge(a: string, b: string): number {
  const id = (mark: string): string => mark.slice(mark.search(/\d{8}t\d{9}-/));
  return id(a) < id(b) ? -1 : 1;
}

/** False only where the run cannot be going on any more. */
export function isRunning(tag: string): boolean {
  const [pid = 0, started] = tag.split('-').map((part) => Number.parseInt(part, 36));
  return startOf(pid) === started;
}

/** Field 22 of /proc/PID/stat, ticks since the machine started; undefined where there is no such process. */
function startOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // Field 2 is the program's name in brackets, which may itself contain blanks and brackets.
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]);
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ESRCH') return undefined;
    throw error;
  }
}
