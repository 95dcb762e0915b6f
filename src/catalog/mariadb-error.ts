// What the driver of MariaDB throws, turned into the one error type of the house.
// It must not decide what a broken rule means: the table's file knows (a name is taken, a backup has dependents).

import { ChainkeepError, isChainkeepError, systemCode } from '../plumbing/errors.ts';
import type { Constraint } from './database-error.ts';

/** Numbers of the server's errors, which stay the same; their names differ between versions. */
const CONSTRAINTS: Readonly<Record<number, Constraint>> = {
  1062: 'unique',
  1048: 'not null',
  1364: 'not null',
  1216: 'foreign key',
  1217: 'foreign key',
  1451: 'foreign key',
  1452: 'foreign key',
  1264: 'check',
  1265: 'check',
  1292: 'check',
  1366: 'check',
  1406: 'check',
  4025: 'check',
};
const DEADLOCK = 1213;
const LOCK_WAIT = 1205;
const GONE: ReadonlySet<number> = new Set([1053, 1927, 4031]);

const NO_ROOM = 'the disk of the database server is full; make room there';
const ADVICE: Readonly<Record<number | string, string>> = {
  [DEADLOCK]: 'other processes are writing the same rows; try again',
  [LOCK_WAIT]: 'another process is writing to the database for unusually long; try again',
  1021: NO_ROOM,
  1114: NO_ROOM,
  1040: 'the server has no connection left; raise its max_connections',
  1044: 'give this user all rights on this database: grant all on DATABASE.* to USER',
  1045: 'check the user in --database, and the password in CHAINKEEP_DATABASE_PASSWORD',
  1049: 'make the database first: create database NAME',
  1142: 'give this user all rights on this database: grant all on DATABASE.* to USER',
  1290: 'the server is read-only: give the address of the one that takes writes',
  1836: 'the server is read-only: give the address of the one that takes writes',
  ECONNREFUSED: 'is the database server running, and does it listen there?',
  ENOENT: 'the socket is not there: is the database server running?',
  ENOTFOUND: 'check the name of the server in --database',
  ETIMEDOUT: 'the database server does not answer: is it reachable from here?',
  HANDSHAKE_SSL_ERROR: 'check the certificate of the server, and give its authority with ?ca=FILE',
};

/** What the driver says when a connection ends, from the socket or by itself. */
const LOST: ReadonlySet<string | undefined> = new Set([
  'PROTOCOL_CONNECTION_LOST',
  'ECONNRESET',
  'EPIPE',
  'ECONNREFUSED',
  'ETIMEDOUT',
  'ENOENT',
  'ENOTFOUND',
  'PROTOCOL_ENQUEUE_AFTER_FATAL_ERROR',
]);

/** CATALOG_FAILED with the driver's code, and the rule of the database that was broken, in the context. */
export function mariadbError(error: unknown, database: string): unknown {
  if (isChainkeepError(error) || !(error instanceof Error)) return error;
  const code = systemCode(error);
  const number = 'errno' in error && typeof error.errno === 'number' ? error.errno : undefined;
  if (code === undefined && number === undefined && !/closed state/.test(error.message)) return error;
  const lost = LOST.has(code) || code === undefined || (number !== undefined && GONE.has(number));
  const advice = (number !== undefined && ADVICE[number]) || (code !== undefined && ADVICE[code]);
  return new ChainkeepError('CATALOG_FAILED', `the database ${database} answered: ${error.message}`, {
    advice: advice || (lost ? 'the database server ended the connection: is it running?' : 'please report this with the job log'),
    context: {
      database,
      database_code: code ?? number,
      constraint: number === undefined ? undefined : CONSTRAINTS[number],
      ...(lost && { connection_lost: true }),
      ...(number === DEADLOCK && { deadlock: true }),
    },
    retryable: lost || number === DEADLOCK || number === LOCK_WAIT,
    cause: error,
  });
}

export function isConnectionLost(error: unknown): boolean {
  return isChainkeepError(error, 'CATALOG_FAILED') && error.context.connection_lost === true;
}

/** InnoDB undid the whole transaction, so that another one could go on. */
export function isDeadlock(error: unknown): boolean {
  return isChainkeepError(error, 'CATALOG_FAILED') && error.context.deadlock === true;
}
