// The configuration of a repository from the options of `repo add`: a JSON file, single settings, secrets by reference.
// A secret itself is never taken from the command line, where every user of the machine could read it.

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { ChainkeepError, systemCode } from '../plumbing/errors.ts';
import { parsePair } from './option-values.ts';

export interface RepositoryConfigOptions {
  readonly path?: string;
  readonly config?: string;
  readonly set?: readonly string[];
  readonly secret?: readonly string[];
}

/** Later ones win: the file, then `--path`, `--set`, `--secret`. */
export function readRepositoryConfig(options: RepositoryConfigOptions): Record<string, unknown> {
  if (options.path === '') throw new ChainkeepError('USAGE', '--path is empty', { advice: 'name the folder of the repository' });
  return {
    ...(options.config !== undefined && readConfigFile(options.config)),
    ...(options.path !== undefined && { path: resolve(options.path) }),
    ...Object.fromEntries((options.set ?? []).map((text) => parsePair(text, '--set'))),
    ...Object.fromEntries((options.secret ?? []).map(readSecret)),
  };
}

/** A JSON object from a file, or from stdin where the name is `-`. */
function readConfigFile(file: string): Record<string, unknown> {
  let config: unknown;
  try {
    config = JSON.parse(readFileSync(file === '-' ? 0 : file, 'utf8'));
  } catch (error) {
    const reason = systemCode(error) ?? 'it is not JSON';
    throw new ChainkeepError('CONFIG_INVALID', `the configuration ${file === '-' ? 'on stdin' : file} cannot be read: ${reason}`, {
      advice: 'give a JSON object with the settings of the repository, for example {"path": "/srv/backups"}',
      cause: error,
    });
  }
  if (typeof config !== 'object' || config === null || Array.isArray(config)) {
    throw new ChainkeepError('CONFIG_INVALID', `the configuration ${file} is not a JSON object`, {
      advice: 'give a JSON object with the settings of the repository, for example {"path": "/srv/backups"}',
    });
  }
  return { ...config };
}

/** `key=env:VAR` or `key=file:PATH`; one newline at the end of a file is not part of the secret. */
function readSecret(text: string): readonly [key: string, value: string] {
  const [key, reference] = parsePair(text, '--secret');
  if (reference.startsWith('env:')) {
    const value = process.env[reference.slice(4)];
    if (value !== undefined) return [key, value];
    throw new ChainkeepError('CONFIG_INVALID', `the secret "${key}" is not set: there is no environment variable ${reference.slice(4)}`, {
      advice: 'export the variable, or use key=file:PATH',
    });
  }
  if (!reference.startsWith('file:')) {
    throw new ChainkeepError('USAGE', `the secret "${key}" must come from env:VAR or file:PATH`, {
      advice: 'a secret on the command line could be read by every user of this machine',
    });
  }
  try {
    return [key, readFileSync(reference.slice(5), 'utf8').replace(/\r?\n$/, '')];
  } catch (error) {
    throw new ChainkeepError('CONFIG_INVALID', `the file of the secret "${key}" cannot be read: ${systemCode(error) ?? String(error)}`, {
      advice: `check ${reference.slice(5)}`,
      cause: error,
    });
  }
}
