// What lies in the folder of one disk: its committed backups, those that are damaged, and files that no sidecar names.

import type { Blake3 } from '../plumbing/blake3.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import { mapAhead } from '../plumbing/map-ahead.ts';
import type { BlobInfo, BlobStore } from '../store/blob-store.ts';
import { readBlob } from './blobs.ts';
import { byAge } from './chain-rules.ts';
import { type DiskPlace, diskFolder, imageFile, type PlacedFile, parseFileName, parseProtectionName, sidecarFile } from './layout.ts';
import { invalidSidecar, MOST_SIDECAR_BYTES, parseSidecar } from './sidecar.ts';
import type { Sidecar } from './sidecar-fields.ts';

export interface DiskFolder {
  readonly place: DiskPlace;
  /** Oldest first. */
  readonly sidecars: readonly Sidecar[];
  /** Backup id → why its sidecar cannot be used, or which of its files is missing or of another size. */
  readonly damaged: ReadonlyMap<string, ChainkeepError>;
  /** Images and digests that no sidecar names: left by a run that died before its commit. */
  readonly rubbish: readonly BlobInfo[];
  /** Files of locks and holds. */
  readonly protectionFiles: readonly BlobInfo[];
}

/** Sidecars that are read at the same time: each is small, and a store far away takes its time for each. */
const READ_AHEAD = 16;

export async function readDiskFolder(store: BlobStore, blake3: Blake3, place: DiskPlace): Promise<DiskFolder> {
  const listed: BlobInfo[] = [];
  for await (const info of store.list(diskFolder(place))) listed.push(info);
  return readListedFolder(store, blake3, place, listed);
}

/** `listed`: everything in the folder. */
export async function readListedFolder(
  store: BlobStore,
  blake3: Blake3,
  place: DiskPlace,
  listed: readonly BlobInfo[],
): Promise<DiskFolder> {
  const folder = diskFolder(place);
  const files = new Map<string, { readonly info: BlobInfo; readonly file: PlacedFile }>();
  for (const info of listed) {
    const file = parseFileName(info.name);
    if (file) files.set(info.name, { info, file });
  }
  const sidecars: Sidecar[] = [];
  const damaged = new Map<string, ChainkeepError>();
  const named = new Set<string>();
  const committed = [...files.values()].filter(({ file }) => file.kind === 'sidecar');
  const read = mapAhead(committed, READ_AHEAD, async (found) => ({
    ...found,
    sidecar: await readSidecar(store, blake3, place, found.file.backupId).catch((error: unknown) => {
      if (error instanceof ChainkeepError && !isStoreFault(error)) return error;
      throw error;
    }),
  }));
  for await (const { info, file, sidecar } of read) {
    named.add(folder + imageFile(file.backupId));
    if (!(sidecar instanceof ChainkeepError)) {
      named.add(folder + sidecar.digests.name);
      sidecars.push(sidecar);
    }
    const fault = sidecar instanceof ChainkeepError ? sidecar : findMissingFile(sidecar, folder, files);
    if (fault) {
      damaged.set(file.backupId, fault);
      // Whatever is left of a damaged backup is evidence, not rubbish.
      for (const other of files.values()) if (other.file.backupId === file.backupId) named.add(other.info.name);
    }
    named.add(info.name);
  }
  const rubbish = [...files.values()].filter(({ info }) => !named.has(info.name)).map(({ info }) => info);
  const protectionFiles = listed.filter(({ name }) => parseProtectionName(name) !== undefined);
  return { place, sidecars: byAge(sidecars), damaged, rubbish, protectionFiles };
}

/** Throws BACKUP_NOT_FOUND where there is none, SIDECAR_INVALID where it is damaged or of another disk. */
export async function readSidecar(store: BlobStore, blake3: Blake3, place: DiskPlace, backupId: string): Promise<Sidecar> {
  const limit = { mostBytes: MOST_SIDECAR_BYTES, refuse: (what: string) => invalidSidecar(backupId, what) };
  const bytes = await readBlob(store, diskFolder(place) + sidecarFile(backupId), limit);
  if (!bytes) {
    throw new ChainkeepError('BACKUP_NOT_FOUND', `backup ${backupId} is not in ${store.place}`, {
      advice: 'list the backups that are there with: chainkeep list',
      context: { backup_id: backupId, place: store.place },
    });
  }
  const sidecar = parseSidecar(blake3, bytes, backupId);
  if (sidecar.vm_context_id !== place.vmContextId || sidecar.disk_id !== place.diskId) {
    throw new ChainkeepError('SIDECAR_INVALID', `the sidecar of backup ${backupId} lies in the folder of another disk`, {
      advice: 'verify the repository; somebody moved or copied files in it',
      context: { backup_id: backupId, vm_context_id: sidecar.vm_context_id, disk_id: sidecar.disk_id },
    });
  }
  return sidecar;
}

const ADVICE_ON_FILES = 'bring the file back from a copy; the backups that need it cannot be restored until then';

export function missingImage({ backup_id }: Sidecar, cause?: unknown): ChainkeepError {
  const details = { advice: ADVICE_ON_FILES, context: { backup_id }, cause };
  return new ChainkeepError('CHAIN_CORRUPT', `the image of backup ${backup_id} is missing`, details);
}

/** A file that is missing or cut is known before anybody builds on it; its bytes are verify's work. */
function findMissingFile(
  sidecar: Sidecar,
  folder: string,
  files: ReadonlyMap<string, { readonly info: BlobInfo }>,
): ChainkeepError | undefined {
  const image = files.get(folder + imageFile(sidecar.backup_id));
  if (!image) return missingImage(sidecar);
  const context = { backup_id: sidecar.backup_id };
  if (image.info.size !== sidecar.size_bytes) {
    const message = `the image of backup ${sidecar.backup_id} has ${image.info.size} bytes instead of ${sidecar.size_bytes}`;
    return new ChainkeepError('CHAIN_CORRUPT', message, { advice: ADVICE_ON_FILES, context });
  }
  if (files.has(folder + sidecar.digests.name)) return undefined;
  return new ChainkeepError('CHAIN_CORRUPT', `the digests of backup ${sidecar.backup_id} are missing`, {
    advice: ADVICE_ON_FILES,
    context,
  });
}

/** The store failed, and what it keeps may be as good as ever. */
export function isStoreFault(error: ChainkeepError): boolean {
  return ['STORE_FAILED', 'REPOSITORY_OFFLINE', 'MOUNT_FAILED'].includes(error.code);
}
