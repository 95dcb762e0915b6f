// Settings of a repository as somebody gave them, checked by the schema of their kind and sorted: what is kept in clear, what is secret, what locks.
// It must not repeat a value in a message. Brings zod: imported to register, change or try a repository, never to open one.

import type { ZodError, ZodObject } from 'zod';
import { ChainkeepError } from '../plumbing/errors.ts';
import { Secret } from '../plumbing/secret.ts';
import { COMMON_OBJECTS, commonConfigSchema } from './common-config.ts';
import { splitCommon } from './common-settings.ts';
import { type ImmutableConfig, immutableConfigSchema } from './immutable-config.ts';
import { loadStoreKind } from './registry.ts';
import type { StoreConfig, StoreKind, StoreType } from './store-kind.ts';

/** Later ones win. */
export interface GivenConfig {
  /** From a document that only its reader sees: secrets may stand in it. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** From arguments, which every user of the machine can read: no secrets. A dot leads into an object: `immutable_config.type`. */
  readonly settings?: Readonly<Record<string, unknown>>;
  /** Read from a place that was named: only secrets. */
  readonly secrets?: Readonly<Record<string, Secret>>;
}

export interface ParsedConfig {
  readonly type: StoreType;
  /** Without secrets. */
  readonly config: StoreConfig;
  readonly secrets: Readonly<Record<string, Secret>>;
  readonly immutable: ImmutableConfig | undefined;
}

const IMMUTABLE = 'immutable_config';
const OBJECTS = [IMMUTABLE, ...COMMON_OBJECTS];

/** Fills in defaults. CONFIG_INVALID names every field that is wrong, and every secret that was given where others can read it. */
export async function parseStoreConfig(type: string, given: GivenConfig): Promise<ParsedConfig> {
  const kind = await loadStoreKind(type);
  const schema = await kind.loadConfigSchema();
  const secretNames = secretFields(schema);
  const settings = given.settings ?? {};
  refuseSecretsInTheOpen(settings, secretNames);
  refuseWhatIsNoSecret(Object.keys(given.secrets ?? {}), secretNames, type);
  const { [IMMUTABLE]: immutable, ...all } = { ...given.config, ...withObjects(settings, given.config), ...given.secrets };
  const { common, own } = splitCommon(all);
  const parsed = schema.safeParse(own);
  const parsedCommon = commonConfigSchema.safeParse(common);
  const faults = [...faultsOf(parsed.error), ...faultsOf(parsedCommon.error)];
  if (!parsed.success || !parsedCommon.success) throw invalid(type, faults);
  const entries = Object.entries(parsed.data).filter(([, value]) => value !== undefined);
  const secrets = entries.filter((entry): entry is [string, Secret] => entry[1] instanceof Secret);
  const config = { ...Object.fromEntries(entries.filter(([, value]) => !(value instanceof Secret))), ...withoutEmpty(parsedCommon.data) };
  return { type: kind.type, config, secrets: Object.fromEntries(secrets), immutable: parseImmutable(kind, config, immutable) };
}

/** The names of the fields that carry the mark. */
function secretFields(schema: ZodObject): readonly string[] {
  return Object.entries(schema.shape)
    .filter(([, field]) => 'meta' in field && typeof field.meta === 'function' && field.meta()?.secret === true)
    .map(([name]) => name);
}

function refuseSecretsInTheOpen(settings: Readonly<Record<string, unknown>>, secretNames: readonly string[]): void {
  const shown = Object.keys(settings).filter((name) => secretNames.includes(name));
  if (shown.length === 0) return;
  const [first] = shown;
  throw new ChainkeepError('CONFIG_INVALID', `${shown.join(', ')}: a secret is not taken from the command line, where others can read it`, {
    advice: `give it as --secret ${first}=env:VAR or ${first}=file:PATH, or in a --config document; change it first if it was the real one`,
    context: { settings: shown },
  });
}

function refuseWhatIsNoSecret(names: readonly string[], secretNames: readonly string[], type: string): void {
  const wrong = names.filter((name) => !secretNames.includes(name));
  if (wrong.length === 0) return;
  const known = secretNames.length === 0 ? 'has no secrets' : `knows the secrets ${secretNames.join(', ')}`;
  throw new ChainkeepError('CONFIG_INVALID', `${wrong.join(', ')}: no secret; a repository of type ${type} ${known}`, {
    advice: 'give other settings with --set key=value',
    context: { settings: wrong },
  });
}

/** `{"immutable_config.type": x}` as part of the object of that name. */
function withObjects(settings: Readonly<Record<string, unknown>>, base: GivenConfig['config']): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(settings)) {
    const object = OBJECTS.find((candidate) => name.startsWith(`${candidate}.`));
    if (object === undefined) result[name] = value;
    else result[object] = { ...objectOf(base?.[object]), ...objectOf(result[object]), [name.slice(object.length + 1)]: value };
  }
  return result;
}

/** `unset` names settings, or parts of them: `limits`, `limits.upload_bytes_per_second`. */
export function withoutSettings(config: Readonly<Record<string, unknown>>, unset: readonly string[]): Record<string, unknown> {
  const left = Object.entries(config).filter(([name]) => !unset.includes(name));
  return Object.fromEntries(
    left.map(([name, value]) => {
      const parts = unset.filter((part) => part.startsWith(`${name}.`)).map((part) => part.slice(name.length + 1));
      if (parts.length === 0) return [name, value];
      return [name, Object.fromEntries(Object.entries(objectOf(value)).filter(([part]) => !parts.includes(part)))];
    }),
  );
}

function withoutEmpty(common: Readonly<Record<string, unknown>>): StoreConfig {
  return Object.fromEntries(Object.entries(common).filter(([, value]) => value !== undefined && JSON.stringify(value) !== '{}'));
}

function objectOf(value: unknown): object {
  return typeof value === 'object' && value !== null ? value : {};
}

function parseImmutable(kind: StoreKind, config: StoreConfig, given: unknown): ImmutableConfig | undefined {
  if (given === undefined || given === null) return undefined;
  const parsed = immutableConfigSchema.safeParse(given);
  if (!parsed.success) throw invalid(kind.type, faultsOf(parsed.error, `${IMMUTABLE}.`));
  const { lock } = kind;
  if (lock.type !== parsed.data.type) throw invalid(kind.type, [`${IMMUTABLE}.type: only ${lock.type} is possible here`]);
  if (lock.setting !== undefined && config[lock.setting] !== true)
    throw invalid(kind.type, [`${lock.setting}: must be true for ${lock.type}`]);
  return parsed.data;
}

function faultsOf(error: ZodError | undefined, within = ''): readonly string[] {
  return (error?.issues ?? []).map((issue) => {
    const name = `${within}${issue.path.join('.')}`;
    return [name, issue.message].filter((part) => part !== '').join(': ');
  });
}

function invalid(type: string, faults: readonly string[]): ChainkeepError {
  return new ChainkeepError('CONFIG_INVALID', `settings of a repository of type ${type}: ${faults.join('; ')}`, {
    advice: 'correct the setting: chainkeep repo add --help shows how they are given',
    context: { type, faults },
  });
}
