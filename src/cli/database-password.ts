// The password of the database server, from the environment or a file: a command line and a URL would show it to everybody.
// It must not be printed, and it leaves the environment of this process, so that no program it starts inherits it.

import { readFileSync } from 'node:fs';
import type { AppOptions } from '../app-interface.ts';
import { ChainkeepError, systemCode } from '../plumbing/errors.ts';
import { Secret } from '../plumbing/secret.ts';

let known: Secret | undefined;

/** Throws CONFIG_INVALID when the file of CHAINKEEP_DATABASE_PASSWORD_FILE cannot be read. */
export function databasePassword(): Pick<AppOptions, 'databasePassword'> {
  const { CHAINKEEP_DATABASE_PASSWORD: password, CHAINKEEP_DATABASE_PASSWORD_FILE: file } = process.env;
  if (password !== undefined) known = new Secret(password);
  else if (file) known = new Secret(readPassword(file));
  delete process.env.CHAINKEEP_DATABASE_PASSWORD;
  return known ? { databasePassword: known } : {};
}

function readPassword(file: string): string {
  try {
    return readFileSync(file, 'utf8').replace(/\r?\n$/, '');
  } catch (error) {
    throw new ChainkeepError(
      'CONFIG_INVALID',
      `the file ${file} of the database password cannot be read: ${systemCode(error) ?? 'unknown'}`,
      {
        advice: 'check CHAINKEEP_DATABASE_PASSWORD_FILE',
        cause: error,
      },
    );
  }
}
