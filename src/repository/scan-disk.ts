// A repository as a whole, for those who read all of it again: which disks there are, and all that one disk's folder says.
// It must not hold more than one folder at a time.

import type { Blake3 } from '../plumbing/blake3.ts';
import type { ChainkeepError } from '../plumbing/errors.ts';
import type { BlobInfo, BlobStore } from '../store/blob-store.ts';
import { chainFaults } from './chain-rules.ts';
import { type DiskFolder, readListedFolder } from './disk-folder.ts';
import { type DiskPlace, diskFolder, EVERY_DISK, isOurs, parseFileName, parseProtectionName } from './layout.ts';
import { type Protection, readProtections } from './protection.ts';

export interface RepositorySurvey {
  /** Sorted as their folders are. */
  readonly places: readonly DiskPlace[];
  /** Bytes of all sidecars: what there is to read. */
  readonly sidecarBytes: number;
  /** Files that are none of ours, and the names of the first of them. */
  readonly otherFiles: number;
  readonly otherNames: readonly string[];
}

export interface ScannedDisk {
  readonly folder: DiskFolder;
  /** Backup id → why it does not reach its full; of a backup whose sidecar can be read. */
  readonly faults: ReadonlyMap<string, ChainkeepError>;
  readonly protections: ReadonlyMap<string, Protection>;
  readonly sidecarBytes: number;
}

const MOST_OTHER_NAMES = 20;

export async function surveyRepository(store: BlobStore): Promise<RepositorySurvey> {
  const places = new Map<string, DiskPlace>();
  const otherNames: string[] = [];
  let sidecarBytes = 0;
  let otherFiles = 0;
  for await (const { name, size } of store.list('')) {
    const file = parseFileName(name);
    const place = file?.place ?? parseProtectionName(name)?.place;
    if (place) places.set(diskFolder(place), place);
    if (file?.kind === 'sidecar') sidecarBytes += size;
    if (isOurs(name)) continue;
    otherFiles++;
    if (otherNames.length < MOST_OTHER_NAMES) otherNames.push(name);
  }
  return { places: [...places.values()], sidecarBytes, otherFiles, otherNames };
}

export interface ListedDisk {
  readonly place: DiskPlace;
  readonly listed: readonly BlobInfo[];
}

/** A listing is sorted, so the files of a folder follow each other. */
export async function* walkDisks(store: BlobStore): AsyncGenerator<ListedDisk> {
  let place: DiskPlace | undefined;
  let listed: BlobInfo[] = [];
  for await (const info of store.list(EVERY_DISK)) {
    const next = (parseFileName(info.name) ?? parseProtectionName(info.name))?.place;
    if (!next) continue;
    if (place && diskFolder(next) !== diskFolder(place)) {
      yield { place, listed };
      listed = [];
    }
    place = next;
    listed.push(info);
  }
  if (place) yield { place, listed };
}

export async function scanDisk(store: BlobStore, blake3: Blake3, place: DiskPlace): Promise<ScannedDisk> {
  const listed: BlobInfo[] = [];
  for await (const info of store.list(diskFolder(place))) listed.push(info);
  const folder = await readListedFolder(store, blake3, place, listed);
  const sizes = listed.filter(({ name }) => parseFileName(name)?.kind === 'sidecar').map(({ size }) => size);
  return {
    folder,
    faults: chainFaults(folder.sidecars),
    protections: await readProtections(store, blake3, listed),
    sidecarBytes: sizes.reduce((sum, size) => sum + size, 0),
  };
}
