// What a database driver throws, turned into the one error type of the house.
// It must not decide what a broken rule means: the table's file knows (a name is taken, a backup has dependents).

import { ChainkeepError, isChainkeepError, systemCode } from '../plumbing/errors.ts';

export type Constraint = 'unique' | 'foreign key' | 'check' | 'not null';

const CONSTRAINTS: Readonly<Record<string, Constraint>> = {
  SQLITE_CONSTRAINT_UNIQUE: 'unique',
  SQLITE_CONSTRAINT_PRIMARYKEY: 'unique',
  SQLITE_CONSTRAINT_FOREIGNKEY: 'foreign key',
  // ON DELETE RESTRICT is carried out by a trigger inside SQLite.
  SQLITE_CONSTRAINT_TRIGGER: 'foreign key',
  SQLITE_CONSTRAINT_CHECK: 'check',
  SQLITE_CONSTRAINT_DATATYPE: 'check',
  SQLITE_CONSTRAINT_NOTNULL: 'not null',
};

const ADVICE: readonly (readonly [string, string])[] = [
  ['SQLITE_BUSY', 'another process is writing to the database for unusually long; try again'],
  ['SQLITE_FULL', 'the disk that holds the database is full; make room there'],
  ['SQLITE_READONLY', 'the database file or its folder cannot be written to by this user'],
  ['SQLITE_CANTOPEN', 'check that the folder of the database exists and belongs to this user'],
  ['SQLITE_NOTADB', 'the file is not a Chainkeep database; give another path with --database'],
  // SQLite says so too where the file is sound and cannot be read.
  [
    'SQLITE_CORRUPT',
    'look whether the disk that holds the database reports errors; a file that is damaged is put aside and the repositories registered again: their backups are in them',
  ],
  ['SQLITE_IOERR', 'the disk that holds the database is full, or reports errors'],
];

/** CATALOG_FAILED with the driver's code, and the rule of the database that was broken, in the context. */
export function catalogError(error: unknown, path: string): unknown {
  const code = systemCode(error);
  if (isChainkeepError(error) || !(error instanceof Error) || !code?.startsWith('SQLITE_')) return error;
  return new ChainkeepError('CATALOG_FAILED', `the database ${path} answered: ${error.message}`, {
    advice: ADVICE.find(([start]) => code.startsWith(start))?.[1] ?? 'please report this with the job log',
    context: { database: path, database_code: code, constraint: CONSTRAINTS[code] },
    retryable: code.startsWith('SQLITE_BUSY'),
    cause: error,
  });
}

/** The rule that a statement broke, or undefined when the error is something else. */
export function constraintOf(error: unknown): Constraint | undefined {
  if (!isChainkeepError(error, 'CATALOG_FAILED')) return undefined;
  return Object.values(CONSTRAINTS).find((constraint) => constraint === error.context.constraint);
}
