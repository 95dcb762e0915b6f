// Registers a repository: settings, place, claim, row and secrets, or nothing of it all.
// It must not write to a place before it knows that the place is free or ours.

import {
  type BackupRepository,
  deleteRepository,
  findRepository,
  getRepository,
  insertRepository,
  listRepositories,
  type NewBackupRepository,
  updateRepository,
} from '../catalog/backup-repositories.ts';
import type { Catalog } from '../catalog/catalog.ts';
import { isoTime } from '../plumbing/clock.ts';
import { type Logger, silentLogger } from '../plumbing/logger.ts';
import { type Immutability, strongest } from '../repository/immutability.ts';
import type { Marker } from '../repository/marker.ts';
import { claimRepository, inspectPlace, openRepository, releaseClaim } from '../repository/repository.ts';
import type { BlobStore } from '../store/blob-store.ts';
import { splitCommon } from '../store/common-settings.ts';
import { type GivenConfig, type ParsedConfig, parseStoreConfig } from '../store/parse-config.ts';
import { placeOf } from '../store/place-of.ts';
import { loadStoreKind } from '../store/registry.ts';
import { assertUsable, failedToOpen, type SelfTestStep, selfTest } from '../store/self-test.ts';
import { currentOwner } from './owner.ts';
import { fullConfig, openLimitOf, type RepositoryContext, storageFields } from './repository-context.ts';
import { isSamePlace, placeOfRow, refuseName, refuseTaken } from './repository-names.ts';
import type { KeyStore } from './secret-keys.ts';
import { storeSecrets } from './secrets.ts';
import { removeSelfTestLeftovers, selfTestName } from './self-test-leftovers.ts';

export interface NewRepository extends GivenConfig {
  readonly name: string;
  readonly type: string;
  readonly takeOver: boolean;
  readonly logger?: Logger;
}

type Undo = () => Promise<void>;

/** Every step that made something says how it is taken back; after a failure that is done in reverse, and the first error is the one thrown. */
export async function registerRepository(context: RepositoryContext, input: NewRepository): Promise<BackupRepository> {
  refuseName(input.name);
  const parsed = await parseStoreConfig(input.type, input);
  const rows = await listRepositories(context.catalog);
  const own = rows.find((row) => row.name === input.name);
  if (input.takeOver && own && (await isSamePlace(placeOfRow(own), parsed))) return takeBack(context, own);
  await refuseTaken(rows, input.name, parsed);
  await withNewPlace(context, parsed, input.logger ?? silentLogger, async (store, undos) => {
    const marker = await claimPlace(context, store, { takeOver: input.takeOver, immutable: parsed.immutable }, undos);
    const row = await newRow(context, input.name, parsed, marker, store);
    // Asked for before the transaction: inside it the catalog answers nobody else.
    const keys = Object.keys(parsed.secrets).length === 0 ? undefined : await context.keys();
    await context.catalog.transaction((unit) => insertWithSecrets(unit, row, parsed, keys));
    undos.push(() => deleteRepository(context.catalog, row.id));
    // A registration that failed elsewhere at the same moment may have taken its marker back, which this one has relied on.
    await openRepository({ ...context, store, logger: silentLogger, repositoryId: row.id, installationId: marker.owner });
  });
  return getRepository(context.catalog, input.name);
}

/** Every behaviour that backups need, tried in a place that is not registered; nothing remains there. */
export async function testPlace(
  context: RepositoryContext,
  type: string,
  given: GivenConfig & { readonly retention?: boolean },
): Promise<readonly SelfTestStep[]> {
  const parsed = await parseStoreConfig(type, given);
  const made: Undo[] = [];
  try {
    const store = await reachPlace(context, parsed, made);
    try {
      await inspectPlace({ store, installationId: await context.installationId(), takeOver: false });
      const name = selfTestName(await currentOwner(context.catalog));
      const { retention = false } = given;
      return await selfTest(store, { clock: context.clock, name, immutable: parsed.immutable !== undefined, retention });
    } finally {
      await store.close();
    }
  } catch (error) {
    return failedToOpen(error);
  } finally {
    await takeAllBack(made, silentLogger);
  }
}

async function withNewPlace(
  context: RepositoryContext,
  parsed: ParsedConfig,
  logger: Logger,
  use: (store: BlobStore, undos: Undo[]) => Promise<void>,
): Promise<void> {
  const undos: Undo[] = [];
  try {
    const store = await reachPlace(context, parsed, undos);
    undos.push(() => store.close());
    await use(store, undos);
    await store.close();
  } catch (error) {
    await takeAllBack(undos, logger);
    throw error;
  }
}

/** The one that hangs has no id yet: its place stands for it. */
async function reachPlace(context: RepositoryContext, { type, config, secrets }: ParsedConfig, undos: Undo[]): Promise<BlobStore> {
  const place = placeOf(type, config);
  return context.reachability.reach({
    id: place,
    name: place,
    limit: await openLimitOf(type),
    run: () => context.openStore(type, { ...splitCommon(config).own, ...secrets }, { create: true, onMade: (undo) => undos.push(undo) }),
    dispose: async (store) => {
      await store.close();
      await takeAllBack(undos, silentLogger);
    },
  });
}

async function takeAllBack(undos: readonly Undo[], logger: Logger): Promise<void> {
  for (const undo of undos.toReversed()) {
    try {
      await undo();
    } catch (error) {
      logger.log('warn', 'something that was made for the repository could not be taken back', { error: String(error) });
    }
  }
}

/** A repository that is there already is only read: it may be full or write-protected, and is wanted back all the more. */
async function claimPlace(
  context: RepositoryContext,
  store: BlobStore,
  { takeOver, immutable }: { readonly takeOver: boolean; readonly immutable: ParsedConfig['immutable'] },
  undos: Undo[],
): Promise<Marker> {
  const { catalog, clock } = context;
  const installationId = await context.installationId();
  const before = await inspectPlace({ store, installationId, takeOver });
  const owner = await currentOwner(catalog);
  if (!before) await assertUsable(store, clock, selfTestName(owner));
  const marker = await claimRepository({ store, clock, installationId, takeOver, immutability: immutable });
  await removeSelfTestLeftovers(store, owner, clock);
  if (before?.owner === installationId) return marker; // settings that it has raised in the marker stay: they only protect more
  // Under the write lock: who registers the same place at the same moment has its row before, or finds its marker gone.
  undos.push(() =>
    catalog.transaction(async (unit) => {
      if (!(await findRepository(unit, marker.repository_id))) await releaseClaim(store, before);
    }),
  );
  return marker;
}

async function newRow(
  { clock }: RepositoryContext,
  name: string,
  { type, config, immutable }: ParsedConfig,
  marker: Marker,
  store: BlobStore,
): Promise<NewBackupRepository> {
  const now = isoTime(clock.now());
  const settings = strongest(immutable, marker.immutability ?? undefined);
  const { lock } = await loadStoreKind(type); // a marker that was copied here names the kind of its old place
  return {
    id: marker.repository_id,
    name,
    repository_type: type,
    config,
    created_at: now,
    ...immutableFields(settings && { ...settings, type: lock.type }),
    ...storageFields(await store.capacity(), now),
  };
}

export function immutableFields(immutable: Immutability | undefined): Partial<BackupRepository> {
  if (!immutable) return { is_immutable: false, immutable_config: null, min_retention_days: 0 };
  return { is_immutable: true, immutable_config: { ...immutable }, min_retention_days: immutable.min_retention_days };
}

async function insertWithSecrets(
  unit: Catalog,
  row: NewBackupRepository,
  { config, secrets }: ParsedConfig,
  keys?: KeyStore,
): Promise<void> {
  await insertRepository(unit, row);
  if (!keys) return;
  const references = await storeSecrets(unit, keys, row.id, secrets);
  await updateRepository(unit, row.id, { config: { ...config, ...references } });
}

async function takeBack(context: RepositoryContext, row: BackupRepository): Promise<BackupRepository> {
  const { clock, reachability } = context;
  const config = await fullConfig(context, row);
  const run = (): Promise<BlobStore> => context.openStore(row.repository_type, config, { create: false });
  const limit = await openLimitOf(row.repository_type);
  const store = await reachability.reach({ id: row.id, name: row.name, limit, run, dispose: (late) => late.close() });
  try {
    const installationId = await context.installationId();
    // That it is this repository is known before anything is written.
    await openRepository({ store, clock, logger: silentLogger, repositoryId: row.id, installationId });
    await claimRepository({ store, clock, installationId, takeOver: true });
    return row;
  } finally {
    await store.close();
  }
}
