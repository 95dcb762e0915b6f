// What lies in the model's repository: images, digests, sidecars, journals. Names and checks only, no order of steps.

import { hashOf } from './digest-model.ts';

export type BackupType = 'full' | 'incremental' | 'differential';

export interface Image {
  readonly kind: 'image';
  readonly id: string;
  readonly generation: number;
  readonly backing: string | null;
  readonly size: number;
  /** Per cluster: data, ZERO or ABSENT. */
  readonly map: readonly number[];
}

export interface Digests {
  readonly kind: 'digests';
  readonly id: string;
  readonly generation: number;
  readonly size: number;
  /** Per cluster: a digest, ZERO_HASH, or null where the image decides nothing. */
  readonly entries: readonly (string | null)[];
  /** One hash per range of what the restore point reads as. */
  readonly ranges: readonly string[];
}

export interface SidecarFields {
  readonly kind: 'sidecar';
  readonly id: string;
  readonly type: BackupType;
  readonly parent: string | null;
  readonly parentRoot: string | null;
  /** The content root. */
  readonly root: string;
  readonly chain: string;
  /** Stands for the time of completion. */
  readonly seq: number;
  readonly size: number;
  readonly generation: number;
  readonly digestsRoot: string;
  readonly structure: string;
}
export interface Sidecar extends SidecarFields {
  readonly checksum: string;
}

/** Takes the place of a sidecar that must never come: an unfinished backup that recovery gave up. */
export interface Discard {
  readonly kind: 'discard';
  readonly id: string;
}

interface JournalFields {
  readonly kind: 'journal';
  readonly target: string;
  readonly oldGeneration: number;
  readonly next: Sidecar;
  /** Newest first, the order in which they are removed. */
  readonly merged: readonly { readonly id: string; readonly generation: number }[];
}
export interface Journal extends JournalFields {
  readonly checksum: string;
}

export type Blob = Image | Digests | Sidecar | Discard | Journal;
export type Blobs = Map<string, Blob>;

export const imageName = (id: string) => `${id}.qcow2`;
export const sidecarName = (id: string) => `${id}.json`;
export const digestsName = (id: string, generation: number) => `${id}.${generation}.digests`;
export const journalName = (id: string, generation: number) => `${id}.${generation}.merge.json`;
/** The backup a blob belongs to. */
export const ownerOf = (name: string) => name.slice(0, name.indexOf('.'));
export const isSidecarName = (name: string) => name === sidecarName(ownerOf(name));
export const isJournalName = (name: string) => name.endsWith('.merge.json');

export function sealSidecar(fields: SidecarFields): Sidecar {
  return { ...fields, checksum: hashOf(JSON.stringify(fields)) };
}

export function sealJournal(fields: JournalFields): Journal {
  return { ...fields, checksum: hashOf(JSON.stringify(fields)) };
}

const sealed = new WeakMap<Sidecar | Journal, boolean>();

/** Does the checksum fit the rest? */
export function isSealed(blob: Sidecar | Journal): boolean {
  let good = sealed.get(blob);
  if (good === undefined) {
    const { checksum, ...fields } = blob;
    good = hashOf(JSON.stringify(fields)) === checksum;
    sealed.set(blob, good);
  }
  return good;
}

export function getImage(blobs: Blobs, id: string): Image | undefined {
  const blob = blobs.get(imageName(id));
  return blob?.kind === 'image' ? blob : undefined;
}

export function getDigests(blobs: Blobs, id: string, generation: number): Digests | undefined {
  const blob = blobs.get(digestsName(id, generation));
  return blob?.kind === 'digests' ? blob : undefined;
}

/** The sidecar if it is whole; its id is the caller's affair. */
export function getSidecar(blobs: Blobs, id: string): Sidecar | undefined {
  const blob = blobs.get(sidecarName(id));
  return blob?.kind === 'sidecar' && isSealed(blob) ? blob : undefined;
}

export function getJournal(blobs: Blobs, id: string, generation: number): Journal | undefined {
  const blob = blobs.get(journalName(id, generation));
  return blob?.kind === 'journal' && isSealed(blob) && blob.target === id && blob.next.generation === generation ? blob : undefined;
}

/** The whole sidecars of the folder, oldest first. */
export function listSidecars(blobs: Blobs): Sidecar[] {
  const found: Sidecar[] = [];
  for (const blob of blobs.values()) if (blob.kind === 'sidecar' && isSealed(blob)) found.push(blob);
  return found.sort((left, right) => left.seq - right.seq);
}
