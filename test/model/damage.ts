// One change to one stored thing, as a disk, a person or a restored old copy may make it, and who must be named for it.

import {
  type Blob,
  type Blobs,
  type Digests,
  digestsName,
  getImage,
  getSidecar,
  type Image,
  imageName,
  isJournalName,
  type Journal,
  journalName,
  listSidecars,
  type Sidecar,
  sidecarName,
} from './blobs.ts';
import { digestOf } from './digest-model.ts';
import { ABSENT, VALUES, ZERO } from './disk-model.ts';
import type { Rows } from './site.ts';

export interface Change {
  readonly what: string;
  readonly name: string;
  readonly original: Blob;
  /** undefined: the blob is gone. */
  readonly damaged: Blob | undefined;
  /** One of these must be named. */
  readonly owners: readonly string[];
}

/** Picks by two numbers. Undefined where the pick changes nothing, or nothing that could ever be told from a whole repository. */
export function planDamage(blobs: Blobs, rows: Rows, older: ReadonlyMap<string, Blob>, which: number, how: number): Change | undefined {
  const targets = worthDamaging(blobs, rows);
  const target = targets[which % Math.max(1, targets.length)];
  if (!target) return undefined;
  const { name, blob, owner } = target;
  const damaged = changeBlob(blobs, older.get(name), name, blob, how);
  if (damaged === blob || (damaged && JSON.stringify(damaged) === JSON.stringify(blob))) return undefined;
  // The old sidecar beside the new image and the journal is a state of the merge itself, and heals.
  if (damaged && damaged === older.get(name) && [...blobs.keys()].some((other) => isJournalName(other))) return undefined;
  // A newest backup whose sidecar is gone is missed by the catalog alone.
  if (!damaged && name === sidecarName(owner) && !rows.has(owner)) return undefined;
  return { what: `${damaged ? 'changes' : 'removes'} ${name}`, name, original: blob, damaged, owners: [owner] };
}

interface Target {
  readonly name: string;
  readonly blob: Blob;
  readonly owner: string;
}

/** What completed backups are made of, and journals whose image is the new one while the sidecar is not. */
function worthDamaging(blobs: Blobs, rows: Rows): Target[] {
  const targets: Target[] = [];
  const journals = [...blobs].filter(([name]) => isJournalName(name));
  for (const { id } of listSidecars(blobs)) {
    if (rows.size > 0 && rows.get(id)?.state !== 'completed') continue;
    const image = getImage(blobs, id);
    if (!image || journals.some(([, blob]) => blob.kind === 'journal' && blob.merged.some((merged) => merged.id === id))) continue;
    const names = [sidecarName(id), imageName(id), digestsName(id, image.generation)];
    if (image.generation !== getSidecar(blobs, id)?.generation) names.push(journalName(id, image.generation));
    for (const name of names) {
      const blob = blobs.get(name);
      if (blob) targets.push({ name, blob, owner: id });
    }
  }
  return targets;
}

function changeBlob(blobs: Blobs, older: Blob | undefined, name: string, blob: Blob, how: number): Blob | undefined {
  if (how % 5 === 0) return undefined;
  if (how % 5 === 1 && older) return older;
  if (how % 5 === 2) return otherOfItsKind(blobs, name, blob);
  const detail = Math.floor(how / 5);
  switch (blob.kind) {
    case 'image':
      return changeImage(blob, detail, otherGeneration(blobs, blob));
    case 'digests':
      return changeDigests(blob, detail);
    case 'sidecar':
      return changeSidecar(blob, detail);
    case 'journal':
      return changeJournal(blob, detail);
    case 'discard':
      return blob;
  }
}

/** The blob of another backup under this one's name: half of a swap. */
function otherOfItsKind(blobs: Blobs, name: string, blob: Blob): Blob {
  for (const [other, candidate] of blobs) if (other !== name && candidate.kind === blob.kind) return candidate;
  return blob;
}

/** Of a merge in progress, if there is one: the number that does most harm. */
function otherGeneration(blobs: Blobs, image: Image): number {
  for (const blob of blobs.values()) {
    if (blob.kind === 'digests' && blob.id === image.id && blob.generation !== image.generation) return blob.generation;
  }
  return image.generation + 1;
}

function changeImage(image: Image, detail: number, otherGeneration: number): Image {
  const at = Math.floor(detail / 8) % image.map.length;
  const replace = (value: number): Image => ({ ...image, map: image.map.map((old, index) => (index === at ? value : old)) });
  switch (detail % 8) {
    case 0:
      return { ...image, id: `${image.id}x` };
    case 1:
      return { ...image, generation: otherGeneration };
    case 2:
      return { ...image, backing: image.backing === null ? 'b1' : null };
    case 3:
      return { ...image, size: image.size + 1 };
    case 4:
      return replace(ZERO);
    case 5:
      return replace(ABSENT);
    default:
      return replace(1 + ((Math.max(image.map[at], 0) + 4) % (VALUES - 1)));
  }
}

function changeDigests(file: Digests, detail: number): Digests {
  const at = Math.floor(detail / 8) % file.entries.length;
  const replace = (entry: string | null): Digests => ({ ...file, entries: file.entries.map((old, index) => (index === at ? entry : old)) });
  switch (detail % 8) {
    case 0:
      return { ...file, ranges: file.ranges.map((hash, range) => (range === at % file.ranges.length ? `${hash}x` : hash)) };
    case 1:
      return { ...file, size: file.size + 1 };
    case 2:
      return replace(digestOf(ZERO));
    case 3:
      return replace(null);
    default:
      return replace(digestOf(1 + (detail % (VALUES - 1))));
  }
}

function changeSidecar(sidecar: Sidecar, detail: number): Sidecar {
  switch (detail % 8) {
    case 0:
      return { ...sidecar, parent: sidecar.parent === null ? 'b1' : null };
    case 1:
      return { ...sidecar, root: `${sidecar.root}x` };
    case 2:
      return { ...sidecar, generation: sidecar.generation + 1 };
    case 3:
      return { ...sidecar, size: sidecar.size + 1 };
    case 4:
      return { ...sidecar, chain: `${sidecar.chain}x` };
    case 5:
      return { ...sidecar, type: sidecar.type === 'full' ? 'incremental' : 'full' };
    case 6:
      return { ...sidecar, parentRoot: `${sidecar.parentRoot}x` };
    default:
      return { ...sidecar, digestsRoot: `${sidecar.digestsRoot}x` };
  }
}

function changeJournal(journal: Journal, detail: number): Journal {
  return detail % 2 === 0 ? { ...journal, merged: [] } : { ...journal, next: { ...journal.next, parent: 'b0' } };
}
