// Opens a restore point: the images of its chain as one disk, and the record of what that disk must read as.
// Chains are resolved by sidecar ids alone; what an image says of itself must fit, or it is corruption.

import type { DiskReader } from '../disk/disk-reader.ts';
import { ChainkeepError, isChainkeepError } from '../plumbing/errors.ts';
import { gather } from '../plumbing/gather.ts';
import { CHAINKEEP_EXTENSION, parseChainkeepExtension } from '../qcow2/header-extensions.ts';
import { openQcow2, type Qcow2Image } from '../qcow2/image.ts';
import { createTableCache, type TableCache } from '../qcow2/table-cache.ts';
import type { BlobStore } from '../store/blob-store.ts';
import { chainReader, lazyLayer } from './chain-reader.ts';
import { ancestors } from './chain-rules.ts';
import { ChainView } from './chain-view.ts';
import { DigestsReader } from './digests-reader.ts';
import { isStoreFault, missingImage, readDiskFolder, readSidecar } from './disk-folder.ts';
import { type DiskPlace, digestsFile, diskFolder, imageFile, parseFileName } from './layout.ts';
import { type AheadStore, openAhead } from './open-ahead.ts';
import type { RepositoryContext } from './repository-context.ts';
import type { Sidecar } from './sidecar-fields.ts';

export interface OpenedBackup {
  readonly sidecar: Sidecar;
  /** What it stands on, newest first, itself included. */
  readonly chain: readonly Sidecar[];
  /** The disk, of its exact size. Its bytes are as stored: whoever uses them checks them against `view`. */
  readonly reader: DiskReader;
  readonly view: ChainView;
  close(): Promise<void>;
}

/**
 * `hint`: ids of the backups it stands on as somebody remembers them, in any order, itself included; a wrong hint costs time, and nothing else.
 * With one, no listing is needed. BACKUP_NOT_FOUND, or what is wrong with the chain.
 */
export async function openBackup(
  context: RepositoryContext,
  place: DiskPlace,
  backupId: string,
  hint?: readonly string[],
): Promise<OpenedBackup> {
  const ahead = openAhead(context.store);
  try {
    const near = { ...context, store: ahead.store };
    const { chain, sizes } = await readChain(near, ahead, { place, backupId, hint });
    return await openChain(near, chain, sizes);
  } catch (error) {
    // Whatever it is, a look at the whole folder names it best; only a store that does not answer is not asked twice.
    if (!(error instanceof ChainkeepError) || isStoreFault(error)) throw error;
  } finally {
    await ahead.close();
  }
  return openFromFolder(context, place, backupId);
}

/** Files with their lengths, where they were listed. */
type Sizes = ReadonlyMap<string, number>;

interface WantedChain {
  readonly place: DiskPlace;
  readonly backupId: string;
  readonly hint: readonly string[] | undefined;
}

/** Names of files are made of ids: what will be needed is asked for together with the sidecars. The record is of the first generation unless merged. */
function beginFiles(ahead: AheadStore, place: DiskPlace, ids: readonly string[]): void {
  const folder = diskFolder(place);
  const sorted = ids.toSorted();
  const edges = new Set([...sorted.slice(0, EDGE), ...sorted.slice(-EDGE)]);
  ahead.begin(ids.map((id) => folder + digestsFile(id, 1)));
  ahead.begin([...edges].map((id) => folder + imageFile(id)));
}

/** The chain by as few sidecars as possible: those of the hint, or those between the full and the backup, whose ids are in the order of time. */
async function readChain(
  { store, blake3 }: RepositoryContext,
  ahead: AheadStore,
  { place, backupId, hint }: WantedChain,
): Promise<{ readonly chain: readonly Sidecar[]; readonly sizes?: Sizes }> {
  const readAll = (ids: readonly string[]): Promise<Sidecar[]> => {
    const reading = gather(ids, (id) => readSidecar(store, blake3, place, id));
    if (ids.length <= MOST_OPENED_AHEAD) beginFiles(ahead, place, hint ? ids : [...ids, backupId]);
    return reading;
  };
  if (hint) return { chain: chainOf(backupId, await readAll([...new Set([backupId, ...hint])])) };
  const [sidecar, sizes] = await Promise.all([readSidecar(store, blake3, place, backupId), listSizes(store, diskFolder(place))]);
  const ids = [...sizes.keys()].map(parseFileName).flatMap((file) => (file?.kind === 'sidecar' ? [file.backupId] : []));
  const between = sidecar.backup_type === 'full' ? [] : ids.filter((id) => id >= sidecar.chain_id && id < backupId);
  return { chain: chainOf(backupId, [sidecar, ...(await readAll(between))]), sizes };
}

function chainOf(backupId: string, sidecars: readonly Sidecar[]): readonly Sidecar[] {
  const sidecar = sidecars.find((candidate) => candidate.backup_id === backupId);
  return sidecar ? ancestors(sidecar, sidecars) : [];
}

async function listSizes(store: BlobStore, prefix: string): Promise<Sizes> {
  const sizes = new Map<string, number>();
  for await (const { name, size } of store.list(prefix)) sizes.set(name, size);
  return sizes;
}

async function openFromFolder(context: RepositoryContext, place: DiskPlace, backupId: string): Promise<OpenedBackup> {
  const folder = await readDiskFolder(context.store, context.blake3, place);
  const sidecar = folder.sidecars.find((candidate) => candidate.backup_id === backupId);
  if (!sidecar) {
    const damage = folder.damaged.get(backupId);
    if (damage) throw damage;
    throw new ChainkeepError('BACKUP_NOT_FOUND', `backup ${backupId} is not in ${context.store.place}`, {
      advice: 'verify the repository: its catalog may know more than is there',
      context: { backup_id: backupId },
    });
  }
  const chain = ancestors(sidecar, folder.sidecars);
  for (const { backup_id: id } of chain) {
    const damage = folder.damaged.get(id);
    if (damage) throw damage;
  }
  return openChain(context, chain);
}

/** Images of a short chain that are opened at once, beside the digests; of a longer one only those that are needed are. */
const MOST_OPENED_AHEAD = 16;
/** Of those, where every open costs: the newest and the oldest, which hold most of what is read. */
const EDGE = 4;

async function openChain(context: RepositoryContext, chain: readonly Sidecar[], sizes?: Sizes): Promise<OpenedBackup> {
  const [sidecar] = chain;
  if (!sidecar) throw new ChainkeepError('INTERNAL', 'internal error: a chain without a backup');
  const cache = createTableCache();
  const layers = chain.map((member) =>
    lazyLayer(imageFile(member.backup_id), member.qcow2.virtual_size, () => openImage(context, member, cache)),
  );
  const digests: DigestsReader[] = [];
  const close = (): Promise<void> => closeAll([...layers, ...digests]);
  try {
    const reading = openDigests(context, chain).then((readers) => digests.push(...readers));
    const isAhead = (depth: number): boolean => isOpenedAhead(context, depth, chain.length);
    const ahead = layers.filter((_, depth) => isAhead(depth));
    const later = chain.filter((_, depth) => !isAhead(depth));
    const outcomes = await Promise.allSettled([
      reading,
      ...ahead.map((layer) => layer.open()),
      checkImagesAreThere(context, placeOf(sidecar), later, sizes),
    ]);
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed) throw failed.reason;
  } catch (error) {
    await close();
    throw error;
  }
  const view = new ChainView(digests);
  const { total_bytes: size, qcow2 } = sidecar;
  const disk = chainReader({ name: `backup ${sidecar.backup_id}`, size, clusterSize: qcow2.cluster_size, layers, view });
  return { sidecar, chain, reader: { ...disk, close }, view, close };
}

function isOpenedAhead({ store }: RepositoryContext, depth: number, length: number): boolean {
  if (length > MOST_OPENED_AHEAD) return depth === 0;
  return !store.capabilities.costlyReads || depth < EDGE || depth >= length - EDGE;
}

/** Whoever restores over a device must know before its first byte is written that an image is gone, also one that is opened when it is needed. */
async function checkImagesAreThere(
  { store }: RepositoryContext,
  place: DiskPlace,
  images: readonly Sidecar[],
  listed?: Sizes,
): Promise<void> {
  if (images.length === 0) return;
  const names = images.map((sidecar) => diskFolder(place) + imageFile(sidecar.backup_id));
  // Ids begin with the time: few files have as much in common with them as they have with each other.
  const sizes = listed ?? (await listSizes(store, commonStart(names)));
  for (const [index, sidecar] of images.entries()) {
    const size = sizes.get(names[index] ?? '');
    if (size === undefined) throw missingImage(sidecar);
    checkSize(size, sidecar);
  }
}

function commonStart(names: readonly string[]): string {
  const [first = '', last = ''] = [names.toSorted().at(0), names.toSorted().at(-1)];
  let length = 0;
  while (length < first.length && first[length] === last[length]) length += 1;
  return first.slice(0, length);
}

function checkSize(size: number, sidecar: Sidecar): void {
  if (size !== sidecar.size_bytes) throw misfit(sidecar, `it has ${size} bytes instead of ${sidecar.size_bytes}`);
}

async function closeAll(open: readonly { close(): Promise<void> }[]): Promise<void> {
  await Promise.all(open.map((one) => one.close()));
}

/** The digests of each backup, in the order given; all are closed again when one cannot be opened. */
export async function openDigests(context: RepositoryContext, backups: readonly Sidecar[]): Promise<DigestsReader[]> {
  return gather(
    backups,
    (sidecar) => openBackupDigests(context, sidecar),
    (reader) => reader.close(),
  );
}

export async function openBackupDigests(context: RepositoryContext, sidecar: Sidecar): Promise<DigestsReader> {
  const source = await context.store.open(diskFolder(placeOf(sidecar)) + sidecar.digests.name);
  try {
    return await DigestsReader.open(source, context.blake3, {
      backupId: sidecar.backup_id,
      root: sidecar.digests.root,
      contentRoot: sidecar.content_root,
      clusterSize: sidecar.qcow2.cluster_size,
      totalBytes: sidecar.total_bytes,
      generation: sidecar.qcow2.generation,
    });
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** The image of one backup, after it has been compared with its sidecar. Throws CHAIN_CORRUPT where they do not fit. */
export async function openImage(context: RepositoryContext, sidecar: Sidecar, cache?: TableCache): Promise<Qcow2Image> {
  const name = diskFolder(placeOf(sidecar)) + imageFile(sidecar.backup_id);
  const source = await context.store.open(name).catch((error: unknown) => {
    throw isChainkeepError(error, 'BLOB_NOT_FOUND') ? missingImage(sidecar, error) : error;
  });
  try {
    checkSize(source.size, sidecar);
    const expectedBackingName = sidecar.parent_backup_id === null ? null : imageFile(sidecar.parent_backup_id);
    const image = await openQcow2(source, { expectedBackingName, layer: true, ...(cache ? { cache } : {}) });
    checkIdentity(image, sidecar);
    return image;
  } catch (error) {
    await source.close();
    throw isChainkeepError(error, 'QCOW2_INVALID') || isChainkeepError(error, 'QCOW2_UNSUPPORTED')
      ? misfit(sidecar, error.message, error)
      : error;
  }
}

function checkIdentity({ header }: Qcow2Image, sidecar: Sidecar): void {
  const mark = header.extensions.find((extension) => extension.type === CHAINKEEP_EXTENSION);
  if (!mark) throw misfit(sidecar, 'it does not say whose image it is');
  const { backupId, generation } = parseChainkeepExtension(mark.data);
  if (backupId !== sidecar.backup_id) throw misfit(sidecar, `it is the image of backup ${backupId}`);
  if (generation !== sidecar.qcow2.generation)
    throw misfit(sidecar, `it is of generation ${generation} instead of ${sidecar.qcow2.generation}`);
  if (header.size !== sidecar.qcow2.virtual_size)
    throw misfit(sidecar, `its size is ${header.size} instead of ${sidecar.qcow2.virtual_size}`);
  if (2 ** header.clusterBits !== sidecar.qcow2.cluster_size) throw misfit(sidecar, `its clusters have ${2 ** header.clusterBits} bytes`);
}

export function placeOf(sidecar: Sidecar): DiskPlace {
  return { vmContextId: sidecar.vm_context_id, diskId: sidecar.disk_id };
}

function misfit(sidecar: Sidecar, what: string, cause?: unknown): ChainkeepError {
  return new ChainkeepError('CHAIN_CORRUPT', `the image of backup ${sidecar.backup_id} does not fit its sidecar: ${what}`, {
    advice: 'verify the repository; bring the file back from a copy if there is one',
    context: { backup_id: sidecar.backup_id },
    cause,
  });
}
