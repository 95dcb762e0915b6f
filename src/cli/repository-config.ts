// The configuration of a repository from the options of `repo`: a JSON document, single settings, secrets by reference.
// A secret itself is never taken from the command line, where every user of the machine could read it, and no message repeats what was given:
// it may be a secret in the wrong place.

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { GivenSettings } from '../app-interface.ts';
import { ChainkeepError, systemCode } from '../plumbing/errors.ts';
import { Secret } from '../plumbing/secret.ts';

export interface RepositoryConfigOptions {
  readonly path?: string;
  readonly config?: string;
  readonly set?: readonly string[];
  readonly secret?: readonly string[];
}

const EXAMPLE = 'give a JSON object with the settings of the repository, for example {"path": "/srv/backups"}';

/** Later ones win: the document, then `--path`, `--set`, `--secret`. */
export function readRepositoryConfig(options: RepositoryConfigOptions): Required<GivenSettings> {
  if (options.path === '') throw new ChainkeepError('USAGE', '--path is empty', { advice: 'name the folder of the repository' });
  const pairs = (options.secret ?? []).map((text) => splitPair(text, '--secret', 'key=env:VAR or key=file:PATH'));
  const secrets = pairs.map(([key, reference]) => [key, readSecret(key, reference)] as const);
  for (const [, reference] of pairs) forgetVariable(reference);
  return {
    config: options.config === undefined ? {} : readConfigFile(options.config),
    settings: {
      ...(options.path !== undefined && { path: resolve(options.path) }),
      ...Object.fromEntries((options.set ?? []).map((text) => splitPair(text, '--set', 'key=value'))),
    },
    secrets: Object.fromEntries(secrets),
  };
}

/** Was anything given at all? */
export function hasRepositoryConfig({ path, config, set, secret }: RepositoryConfigOptions): boolean {
  return [path, config, set, secret].some((option) => option !== undefined);
}

function splitPair(text: string, option: string, form: string): readonly [key: string, value: string] {
  const at = text.indexOf('=');
  if (at < 1) throw new ChainkeepError('USAGE', `${option} takes ${form}`);
  return [text.slice(0, at), text.slice(at + 1)];
}

/** A JSON object from a file, or from stdin where the name is `-`. What the parser says is not passed on: it quotes the document. */
function readConfigFile(file: string): Record<string, unknown> {
  const where = file === '-' ? 'on stdin' : file;
  const content = readText(file === '-' ? 0 : file, `the configuration ${where}`, EXAMPLE);
  const config = parseJson(content.reveal());
  if (typeof config === 'object' && config !== null && !Array.isArray(config)) return { ...config };
  throw new ChainkeepError('CONFIG_INVALID', `the configuration ${where} cannot be read: it is not a JSON object`, { advice: EXAMPLE });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // the caller says that it is none; the parser's own words would quote it
  }
}

/** `env:VAR` or `file:PATH`; one newline at the end of a file is not part of the secret. */
function readSecret(key: string, reference: string): Secret {
  if (reference.startsWith('env:')) {
    const value = process.env[reference.slice(4)];
    if (value !== undefined) return new Secret(value);
    throw new ChainkeepError('CONFIG_INVALID', `the secret "${key}" is not set: there is no environment variable of the given name`, {
      advice: 'export the variable, or use key=file:PATH',
    });
  }
  if (!reference.startsWith('file:')) {
    throw new ChainkeepError('USAGE', `the secret "${key}" must come from env:VAR or file:PATH`, {
      advice: 'a secret on the command line could be read by every user of this machine',
    });
  }
  const content = readText(reference.slice(5), `the file of the secret "${key}"`, 'check the path behind file:');
  return new Secret(content.reveal().replace(/\r?\n$/, ''));
}

/** No program that this one starts inherits it. */
function forgetVariable(reference: string): void {
  if (reference.startsWith('env:')) delete process.env[reference.slice(4)];
}

function readText(file: string | number, what: string, advice: string): Secret {
  try {
    return new Secret(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new ChainkeepError('CONFIG_INVALID', `${what} cannot be read: ${systemCode(error) ?? 'it is no file'}`, { advice });
  }
}
