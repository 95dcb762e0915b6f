// What the attacked program and the campaign tell each other: which statement is struck and how, and which statements there were.
// It must not be more than data: it is loaded into the attacked program.

/**
 * `held`, `locked`, `locked for good`: another connection has the write lock for a moment, until a statement was refused, until the program ends.
 * `full`, `full for good`: the disk of the database has no byte left, until a statement was refused or for good. `read-only`: the database takes no
 * writes any more. `unreadable`: SQLite answers with an I/O error, once, and has rolled back, as it does then. `slow`: it takes a second. `killed`,
 * `killed after`: the program dies before or after it.
 */
export const EMBEDDED_FAULTS = [
  'held',
  'locked',
  'locked for good',
  'full',
  'full for good',
  'read-only',
  'unreadable',
  'slow',
  'killed',
  'killed after',
] as const;
export type EmbeddedFault = (typeof EMBEDDED_FAULTS)[number];

/** Given in the environment, as JSON. */
export interface Order {
  /** Where the statements are written, a line each; without it they are not. */
  readonly trace?: string;
  readonly strike?: {
    readonly fault: EmbeddedFault;
    /** The number of the statement, from 1. */
    readonly at: number;
    /** Made when the fault was met. */
    readonly hit: string;
    /** On the disk of the database: takes all its room. */
    readonly filler: string;
  };
}

export const ORDER = 'CHAINKEEP_PROVE_STATEMENTS';

export interface Statement {
  readonly text: string;
  /** `begin` and `commit` count as ones that do not, pragmas too. */
  readonly writes: boolean;
  readonly inTransaction: boolean;
}

/** Waits for the write lock, if somebody else has it. The others read beside a writer, or have the lock already. */
export function takesLock({ text, writes, inTransaction }: Statement): boolean {
  return !inTransaction && (writes || text.startsWith('begin'));
}

/** Appends to the log of the database. Writes inside of a transaction stay in memory until its end. */
export function needsRoom({ text, writes, inTransaction }: Statement): boolean {
  return text === 'commit' || (writes && !inTransaction);
}

/** The faults that can be met at a statement. */
export function faultsAt(statement: Statement): readonly EmbeddedFault[] {
  const { text, writes } = statement;
  return EMBEDDED_FAULTS.filter((fault) => {
    if (fault === 'held' || fault === 'locked' || fault === 'locked for good') return takesLock(statement);
    // After a statement that leaves nothing on the disk it is as it was before.
    if (fault === 'full' || fault === 'full for good' || fault === 'killed after') return needsRoom(statement);
    if (fault === 'read-only') return writes || text.startsWith('begin');
    return true;
  });
}
