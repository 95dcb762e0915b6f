// Changes a repository: its name, whether it takes backups, its settings and secrets, its place.
// It must not move a repository to a place that does not hold it: the marker there decides.

import { isDeepStrictEqual } from 'node:util';
import { type BackupRepository, getRepository, listRepositories, updateRepository as updateRow } from '../catalog/backup-repositories.ts';
import { isoTime } from '../plumbing/clock.ts';
import { silentLogger } from '../plumbing/logger.ts';
import { type Immutability, isWeaker, strongest } from '../repository/immutability.ts';
import { latestLock } from '../repository/repository-locks.ts';
import type { BlobStore } from '../store/blob-store.ts';
import { splitCommon } from '../store/common-settings.ts';
import { type GivenConfig, type ParsedConfig, parseStoreConfig, withoutSettings } from '../store/parse-config.ts';
import { loadStoreKind } from '../store/registry.ts';
import { refuseWeaker } from './refuse-locked-repository.ts';
import { immutableFields } from './register-repository.ts';
import { immutabilityOf, openIn, openLimitOf, type RepositoryContext, refuseReadOnly, storageFields } from './repository-context.ts';
import { placeOfRow, refuseName, refuseTaken } from './repository-names.ts';
import { isSecretReference } from './secret-reference.ts';
import { dropSecrets, readSecrets, storeSecrets } from './secrets.ts';

export interface RepositoryChanges extends GivenConfig {
  readonly name?: string;
  readonly enabled?: boolean;
  /** Settings to leave out from now on. */
  readonly unset?: readonly string[];
}

/** Throws REPOSITORY_OFFLINE or REPOSITORY_INVALID when the place that the new settings name does not hold this repository. */
export async function updateRepository(
  context: RepositoryContext,
  nameOrId: string,
  changes: RepositoryChanges,
): Promise<BackupRepository> {
  const row = await getRepository(context.catalog, nameOrId);
  const { name = row.name, enabled = row.enabled } = changes;
  refuseName(name);
  const others = (await listRepositories(context.catalog)).filter((other) => other.id !== row.id);
  if (!changesSettings(changes)) {
    if (name !== row.name) await refuseTaken(others, name, placeOfRow(row));
    await updateRow(context.catalog, row.id, { name, enabled });
    return getRepository(context.catalog, row.id);
  }
  const parsed = await parseChanges(context, row, changes);
  await refuseTaken(others, name, parsed);
  // Limits count for where it is, and can be set while it is offline.
  const looked = isWhereItWas(row, parsed, changes) ? undefined : await lookAtPlace(context, row, parsed, changes);
  const keys = await context.keys();
  await context.catalog.transaction(async (unit) => {
    const fresh = Object.entries(parsed.secrets).filter(([secret]) => isGiven(changes, secret));
    const kept = Object.entries(row.config).filter(([secret, value]) => isSecretReference(value) && secret in parsed.secrets);
    const gone = Object.entries(row.config).filter(([secret, value]) => isSecretReference(value) && !(secret in parsed.secrets));
    await dropSecrets(
      unit,
      row.id,
      gone.map(([secret]) => secret),
    );
    const references = fresh.length === 0 ? {} : await storeSecrets(unit, keys, row.id, Object.fromEntries(fresh));
    const config = { ...parsed.config, ...Object.fromEntries(kept), ...references };
    await updateRow(unit, row.id, { name, enabled, config, ...(looked && { ...immutableFields(looked.settings), ...looked.measured }) });
  });
  await looked?.keepInMarker();
  return getRepository(context.catalog, row.id);
}

function changesSettings({ config, settings, secrets, unset }: RepositoryChanges): boolean {
  return [config, settings, secrets, unset].some((part) => part !== undefined && Object.keys(part).length > 0);
}

/** Nothing changed that a store is opened with, and nothing that it would have to be able to do. */
function isWhereItWas(row: BackupRepository, parsed: ParsedChanges, changes: RepositoryChanges): boolean {
  const before = Object.entries(splitCommon(row.config).own).filter(([, value]) => !isSecretReference(value));
  const same = (left: unknown, right: unknown): boolean => isDeepStrictEqual(left ?? null, right ?? null);
  const fresh = Object.keys(parsed.secrets).some((name) => isGiven(changes, name));
  const { length } = Object.values(row.config).filter(isSecretReference);
  const secrets = !fresh && Object.keys(parsed.secrets).length === length;
  return secrets && same(Object.fromEntries(before), splitCommon(parsed.config).own) && same(row.immutable_config, parsed.immutable);
}

/** In the document, or by reference: a secret that is only kept is not encrypted anew. */
function isGiven({ config, secrets }: RepositoryChanges, name: string): boolean {
  return Object.hasOwn(config ?? {}, name) || Object.hasOwn(secrets ?? {}, name);
}

interface ParsedChanges extends Omit<ParsedConfig, 'immutable'> {
  readonly immutable: Immutability | undefined;
}

/** The settings as they would be. Stored secrets are opened only where they are kept: with their key lost they can still be given again. */
async function parseChanges(context: RepositoryContext, row: BackupRepository, changes: RepositoryChanges): Promise<ParsedChanges> {
  const { unset = [] } = changes;
  const given = [...Object.keys(changes.secrets ?? {}), ...Object.keys(changes.config ?? {}), ...unset];
  const kept = await readSecrets(context.catalog, context.keys, row.id, { except: given });
  const { lock } = await loadStoreKind(row.repository_type);
  // Settings that came with a copy of a repository are of another kind of store; where this one cannot lock they stay as they are until somebody changes them.
  const isKept = lock.setting !== undefined && row.config[lock.setting] !== true && !isAboutImmutability(changes);
  const immutable_config = { ...row.immutable_config, type: lock.type };
  const present = { ...row.config, ...(row.immutable_config && !isKept && { immutable_config }) };
  const base = Object.entries(withoutSettings(present, unset)).filter(([, value]) => !isSecretReference(value));
  const parsed = await parseStoreConfig(row.repository_type, {
    config: { ...Object.fromEntries(base), ...Object.fromEntries(kept), ...changes.config },
    ...(changes.settings && { settings: changes.settings }),
    ...(changes.secrets && { secrets: changes.secrets }),
  });
  return isKept ? { ...parsed, immutable: immutabilityOf(row) } : parsed;
}

interface Place {
  readonly measured: Partial<BackupRepository>;
  readonly settings: Immutability | undefined;
  readonly keepInMarker: () => Promise<void>;
}

/**
 * Opens the repository there, which proves that it is this one. Settings of immutability that protect less are refused while anything is locked by
 * the present ones; those that protect more stand in the marker before they stand in the catalog, the others behind it: a crash between the two
 * leaves the stronger ones.
 */
async function lookAtPlace(
  context: RepositoryContext,
  row: BackupRepository,
  parsed: ParsedChanges,
  changes: RepositoryChanges,
): Promise<Place> {
  const { reachability } = context;
  const config = { ...splitCommon(parsed.config).own, ...parsed.secrets };
  const openIt = async (): Promise<BlobStore> => context.openStore(row.repository_type, config, { create: false });
  // Another key than the repository's own: the old place may hang while the new one answers.
  const limit = await openLimitOf(row.repository_type);
  const open = (): Promise<BlobStore> =>
    reachability.reach({ id: `${row.id} moved`, name: row.name, limit, run: openIt, dispose: (late) => late.close() });
  const store = await open();
  try {
    const repository = await openIn(context, row, store, silentLogger);
    const { settings: present } = repository.locks;
    const measured = storageFields(await store.capacity(), isoTime(context.clock.now()));
    // Nobody who changes something else weakens what the marker alone still knows.
    const wanted = isAboutImmutability(changes) ? parsed.immutable : strongest(parsed.immutable, present);
    if (isAboutImmutability(changes)) refuseReadOnly(row, repository);
    if (!isWeaker(wanted, present)) {
      if (!repository.readOnly) await repository.locks.replaceSettings(wanted);
      return { measured, settings: wanted, keepInMarker: async () => undefined };
    }
    refuseWeaker(row, await latestLock(store), await repository.locks.time());
    return { measured, settings: wanted, keepInMarker: () => lowerMarker(context, row, open, wanted) };
  } finally {
    await store.close();
  }
}

function isAboutImmutability({ config, settings, unset = [] }: RepositoryChanges): boolean {
  const names = [...Object.keys(config ?? {}), ...Object.keys(settings ?? {}), ...unset];
  return names.some((name) => name === 'immutable_config' || name.startsWith('immutable_config.'));
}

async function lowerMarker(
  context: RepositoryContext,
  row: BackupRepository,
  open: () => Promise<BlobStore>,
  wanted: Immutability | undefined,
): Promise<void> {
  const store = await open();
  try {
    const { locks } = await openIn(context, row, store, silentLogger);
    await locks.replaceSettings(wanted);
  } finally {
    await store.close();
  }
}
