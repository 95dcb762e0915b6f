// Recovery: what every writer does first. Fence, then look, then act, and act only on what was seen. Also the ends of merge and
// delete, which are the same whether they come at once or after a crash.

import {
  type Blob,
  digestsName,
  getDigests,
  getImage,
  getSidecar,
  type Image,
  imageName,
  isJournalName,
  isSealed,
  isSidecarName,
  type Journal,
  journalName,
  listSidecars,
  ownerOf,
  type Sidecar,
  sidecarName,
} from './blobs.ts';
import { digestsRoot, structureOf } from './digest-model.ts';
import { isFault, openPair } from './reader.ts';
import { completedRow, DONE, type Op, type Process, type Rows, type Site } from './site.ts';

/** What a writer does before it plans. */
export function* settle(site: Site): Process {
  return site.rules.has('recoverFirst') ? yield* recover(site) : DONE;
}

export function* recover(site: Site): Process {
  if (site.rules.has('fenceFirst')) yield { op: 'fence' };
  yield* fillRows(site);
  for (const [id, row] of [...site.rows]) if (row.state === 'deleting') yield* removeDeleted(site, id, row.generation);
  const journals = [...site.blobs].filter(([name]) => isJournalName(name));
  // What can be finished first: it may take away the backup that a late journal of another merge names.
  const finished = ([, blob]: readonly [string, Blob]) => (blob.kind === 'journal' && hasNewImage(site, blob) ? 0 : 1);
  for (const [name, blob] of journals.sort((left, right) => finished(left) - finished(right))) {
    const outcome = yield* settleMerge(site, name, blob);
    if (outcome !== DONE) return outcome;
  }
  for (const [id, row] of [...site.rows]) {
    if (row.state !== 'running') continue;
    const outcome = yield* settleRunning(site, id);
    if (outcome !== DONE) return outcome;
  }
  return yield* sweep(site);
}

/** The repository is the truth: a sidecar that fits its image is a completed backup, whether or not the catalog has heard of it. */
function* fillRows(site: Site): Process {
  const unknown = listSidecars(site.blobs).filter(({ id }) => !site.rows.has(id) && !isFault(openPair(site.blobs, site.rules, id)));
  const change = (rows: Rows) => {
    for (const sidecar of unknown) rows.set(sidecar.id, completedRow(sidecar));
  };
  if (unknown.length > 0) yield { op: 'rows', what: `learns of ${unknown.map(({ id }) => id).join(' ')}`, change };
  return DONE;
}

/** A merge goes on when the image is the new one, and is dropped when it is the one that the sidecar knows. Else nothing is touched. */
function* settleMerge(site: Site, name: string, blob: Blob): Process {
  if (blob.kind !== 'journal' || !isSealed(blob) || name !== journalName(blob.target, blob.next.generation)) return `${name} is damaged`;
  if (hasNewImage(site, blob)) return yield* finishMerge(site, blob);
  const { target, next } = blob;
  const image = getImage(site.blobs, target);
  const old = isImageOf(site, image, getSidecar(site.blobs, target));
  const there = site.blobs.get(sidecarName(target));
  const gone = !image && (there === undefined || there.kind === 'discard') && !site.rows.has(target);
  if (!old && !gone && site.rules.has('stopsWhenUnsure')) return `${target}: neither the old image nor that of ${name}`;
  yield { op: 'delete', name: digestsName(target, next.generation) };
  yield { op: 'delete', name };
  return DONE;
}

function hasNewImage(site: Site, { target, next }: Journal): boolean {
  return isImageOf(site, getImage(site.blobs, target), next);
}

/** Its very image, header and tables as well, before anything is done that cannot be undone: a number alone may be the damage. */
function isImageOf(site: Site, image: Image | undefined, sidecar: Sidecar | undefined): boolean {
  if (!image || image.id !== sidecar?.id || image.generation !== sidecar.generation) return false;
  return !site.rules.has('knowsTheImage') || structureOf(image) === sidecar.structure;
}

/** The steps of a merge from the new image on. Each may have happened already. */
export function* finishMerge(site: Site, journal: Journal): Process {
  const { target, next, merged, oldGeneration } = journal;
  const digests = getDigests(site.blobs, target, next.generation);
  if (!digests || digestsRoot(digests) !== next.digestsRoot) return `${target}: new digests missing or damaged`;
  const current = getSidecar(site.blobs, target);
  if (current?.generation !== next.generation) {
    if (current?.generation !== oldGeneration) return `${target}: sidecar missing or damaged`;
    const when = site.rules.has('sidecarIfMatch') ? current : 'always';
    if (!(yield { op: 'put', name: sidecarName(target), blob: next, when })) return `${target}: sidecar changed meanwhile`;
  }
  const run = merged.map(({ id }) => id);
  if (!childrenKnown(site, run)) return 'a sidecar is unreadable or missing';
  // What got another child since is kept, and so is what lies below it: the result needs none of them.
  const kept = site.rules.has('looksForChildrenAgain') ? run.findIndex((id) => hasChildren(site, id, run)) : -1;
  const leaving = kept < 0 ? merged : merged.slice(0, kept);
  for (const { id, generation } of leaving) yield* removeBlobs(site, id, generation);
  yield { op: 'delete', name: digestsName(target, oldGeneration) };
  const updateRows: Op = {
    op: 'rows',
    what: `${target} has generation ${next.generation}; gone: ${leaving.map(({ id }) => id).join(' ')}`,
    change: (rows) => {
      rows.set(target, completedRow(next));
      for (const { id } of leaving) rows.delete(id);
    },
  };
  if (site.rules.has('rowsBeforeJournal')) yield updateRows;
  yield { op: 'delete', name: journalName(target, next.generation) };
  if (!site.rules.has('rowsBeforeJournal')) yield updateRows;
  return DONE;
}

function* removeBlobs(site: Site, id: string, generation: number): Process {
  const names = [sidecarName(id), digestsName(id, generation), imageName(id)];
  for (const name of site.rules.has('sidecarFirst') ? names : names.reverse()) yield { op: 'delete', name };
  return DONE;
}

/** Removes a backup that nothing is built on. */
export function* deleteBackup(site: Site, id: string): Process {
  const settled = yield* settle(site);
  if (settled !== DONE) return settled;
  const row = site.rows.get(id);
  const sidecar = getSidecar(site.blobs, id);
  if (!row || !sidecar) return 'no such backup';
  if (!childrenKnown(site)) return 'a sidecar is unreadable or missing';
  if (site.rules.has('noDependents') && hasChildren(site, id)) return 'has dependents';
  if (site.rules.has('rowSaysDeleting'))
    yield { op: 'rows', what: `${id} is being deleted`, change: (rows) => rows.set(id, { ...row, state: 'deleting' }) };
  return yield* removeDeleted(site, id, sidecar.generation);
}

function* removeDeleted(site: Site, id: string, generation: number): Process {
  yield* removeBlobs(site, id, generation);
  yield { op: 'rows', what: `${id} is gone`, change: (rows) => rows.delete(id) };
  return DONE;
}

/** A backup whose run is dead: completed if its sidecar is there; else its sidecar's name is taken, so that it can never come. */
function* settleRunning(site: Site, id: string): Process {
  if (!site.rules.has('sidecarMeansCompleted')) return yield* removeGivenUp(id);
  const there = site.blobs.get(sidecarName(id));
  if (there === undefined || there.kind === 'discard') {
    if (!(yield* discard(site, id))) return yield* settleRunning(site, id);
    return yield* removeGivenUp(id);
  }
  const sidecar = getSidecar(site.blobs, id);
  if (!sidecar) return `${sidecarName(id)} is damaged`;
  yield { op: 'rows', what: `${id} is completed, recovered`, change: (rows) => rows.set(id, completedRow(sidecar)) };
  return DONE;
}

/** False when a sidecar came first. */
function* discard(site: Site, id: string): Generator<Op, boolean, boolean> {
  if (!site.rules.has('claimsTheSidecar') || site.blobs.get(sidecarName(id))?.kind === 'discard') return true;
  return yield { op: 'put', name: sidecarName(id), blob: { kind: 'discard', id }, when: 'absent' };
}

function* removeGivenUp(id: string): Process {
  yield { op: 'delete', name: digestsName(id, 1) };
  yield { op: 'delete', name: imageName(id) };
  yield { op: 'rows', what: `${id} has failed`, change: (rows) => rows.delete(id) };
  return DONE;
}

/**
 * Is every child of every backup known? Not while a sidecar cannot be read, or is missing and the catalog knows it, or is an older
 * one come back: its generation is that of the catalog, or at least that of its image.
 */
export function childrenKnown(site: Site, leaving: readonly string[] = []): boolean {
  if (!site.rules.has('knowsAllChildren')) return true;
  for (const [name, blob] of site.blobs) {
    if (isSidecarName(name) && blob.kind !== 'discard' && !isTrusted(site, ownerOf(name))) return false;
  }
  const missing = [...site.rows].some(
    ([id, row]) => row.state === 'completed' && !leaving.includes(id) && !site.blobs.has(sidecarName(id)),
  );
  return !missing;
}

function isTrusted(site: Site, id: string): boolean {
  const sidecar = getSidecar(site.blobs, id);
  if (sidecar?.id !== id) return false;
  return sidecar.generation === site.rows.get(id)?.generation || !isFault(openPair(site.blobs, site.rules, id));
}

/** Children that stay. */
function hasChildren(site: Site, id: string, leaving: readonly string[] = []): boolean {
  return listSidecars(site.blobs).some((sidecar) => sidecar.parent === id && !leaving.includes(sidecar.id));
}

/** Removes what belongs to no backup. In the product only what is old enough, or whose owner is dead for certain. */
function* sweep(site: Site): Process {
  if (!childrenKnown(site)) return DONE;
  for (const [name, blob] of [...site.blobs]) {
    if ((blob.kind !== 'image' && blob.kind !== 'digests') || !isRubbish(site, name)) continue;
    const id = ownerOf(name);
    if (getSidecar(site.blobs, id) || (yield* discard(site, id))) yield { op: 'delete', name };
  }
  return DONE;
}

/** Goes by names alone: what a blob says of itself may be the damage. */
function isRubbish(site: Site, name: string): boolean {
  const id = ownerOf(name);
  const sidecar = getSidecar(site.blobs, id);
  if (!sidecar) return !hasChildren(site, id);
  // Digests of another generation than the backup's, once sidecar and image agree on theirs.
  if (name === imageName(id) || isFault(openPair(site.blobs, site.rules, id))) return false;
  return name !== digestsName(id, sidecar.generation);
}
