// Changes a repository: its name, whether it takes backups, its settings and secrets, its place.
// It must not move a repository to a place that does not hold it: the marker there decides.

import { type BackupRepository, getRepository, listRepositories, updateRepository as updateRow } from '../catalog/backup-repositories.ts';
import { isoTime } from '../plumbing/clock.ts';
import { silentLogger } from '../plumbing/logger.ts';
import { openRepository } from '../repository/repository.ts';
import type { BlobStore } from '../store/blob-store.ts';
import { type GivenConfig, type ParsedConfig, parseStoreConfig } from '../store/parse-config.ts';
import { immutableFields } from './register-repository.ts';
import { openLimitOf, type RepositoryContext, storageFields } from './repository-context.ts';
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
  const measured = await measurePlace(context, row, parsed);
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
    await updateRow(unit, row.id, { name, enabled, config, ...immutableFields(parsed.immutable), ...measured });
  });
  return getRepository(context.catalog, row.id);
}

function changesSettings({ config, settings, secrets, unset }: RepositoryChanges): boolean {
  return [config, settings, secrets, unset].some((part) => part !== undefined && Object.keys(part).length > 0);
}

/** In the document, or by reference: a secret that is only kept is not encrypted anew. */
function isGiven({ config, secrets }: RepositoryChanges, name: string): boolean {
  return Object.hasOwn(config ?? {}, name) || Object.hasOwn(secrets ?? {}, name);
}

/** The settings as they would be. Stored secrets are opened only where they are kept: with their key lost they can still be given again. */
async function parseChanges(context: RepositoryContext, row: BackupRepository, changes: RepositoryChanges): Promise<ParsedConfig> {
  const { unset = [] } = changes;
  const given = [...Object.keys(changes.secrets ?? {}), ...Object.keys(changes.config ?? {}), ...unset];
  const kept = await readSecrets(context.catalog, context.keys, row.id, { except: given });
  const present = { ...row.config, ...(row.immutable_config && { immutable_config: row.immutable_config }) };
  const base = Object.entries(present).filter(([name, value]) => !unset.includes(name) && !isSecretReference(value));
  return parseStoreConfig(row.repository_type, {
    config: { ...Object.fromEntries(base), ...Object.fromEntries(kept), ...changes.config },
    ...(changes.settings && { settings: changes.settings }),
    ...(changes.secrets && { secrets: changes.secrets }),
  });
}

/** Opens the repository there, which proves that it is this one. */
async function measurePlace(context: RepositoryContext, row: BackupRepository, parsed: ParsedConfig): Promise<Partial<BackupRepository>> {
  const { clock, reachability } = context;
  const installationId = await context.installationId();
  const config = { ...parsed.config, ...parsed.secrets };
  const openIt = async (): Promise<BlobStore> => context.openStore(row.repository_type, config, { create: false });
  // Another key than the repository's own: the old place may hang while the new one answers.
  const limit = await openLimitOf(row.repository_type);
  const store = await reachability.reach({ id: `${row.id} moved`, name: row.name, limit, run: openIt, dispose: (late) => late.close() });
  try {
    await openRepository({ store, clock, logger: silentLogger, repositoryId: row.id, installationId });
    return storageFields(await store.capacity(), isoTime(clock.now()));
  } finally {
    await store.close();
  }
}
