// Verify: every stored thing against what vouches for it. Answers which backups are damaged, and must be silent in every
// state that a crash can leave. Repairs nothing.

import {
  type Blobs,
  type Digests,
  getDigests,
  getImage,
  getSidecar,
  type Image,
  isJournalName,
  isSealed,
  isSidecarName,
  type Journal,
  journalName,
  ownerOf,
  sidecarName,
} from './blobs.ts';
import { contentRoot, digestOf, digestsOver, digestsRoot, rangesOf, structureOf, ZERO_HASH } from './digest-model.ts';
import { ABSENT, clusterCount, ZERO } from './disk-model.ts';
import { bindingFault, isFault, openPair, type Pair } from './reader.ts';
import type { Rules } from './rules.ts';
import type { Row, Rows } from './site.ts';

/** Backup id to what is wrong with it. */
export type Damage = Map<string, string>;

export function verify(blobs: Blobs, rules: Rules, rows: Rows): Damage {
  const damage: Damage = new Map();
  const journals: Journal[] = [];
  for (const [name, blob] of blobs) {
    if (!isJournalName(name)) continue;
    if (blob.kind === 'journal' && isSealed(blob) && name === journalName(blob.target, blob.next.generation)) journals.push(blob);
    else damage.set(ownerOf(name), `${name} is damaged`);
  }
  const merged = new Set(
    journals.filter((journal) => hasNewImage(blobs, journal)).flatMap((journal) => journal.merged.map(({ id }) => id)),
  );
  for (const [id, row] of rows) {
    if (row.state === 'completed' && !merged.has(id) && !blobs.has(sidecarName(id))) damage.set(id, 'completed, but it has no sidecar');
  }
  const reads = new Map<string, readonly string[]>();
  for (const name of blobs.keys()) {
    const id = ownerOf(name);
    if (isSidecarName(name) && blobs.get(name)?.kind !== 'discard') verifyBackup({ blobs, rules, damage, reads }, id);
  }
  for (const [id, row] of rows) {
    const sidecar = getSidecar(blobs, id);
    if (row.state === 'completed' && sidecar && !journals.some(({ target }) => target === id) && !sameRow(row, sidecar)) {
      damage.set(id, 'not what the catalog knows');
    }
  }
  return damage;
}

function hasNewImage(blobs: Blobs, journal: Journal): boolean {
  return getImage(blobs, journal.target)?.generation === journal.next.generation;
}

function sameRow(row: Row, sidecar: Pair['sidecar']): boolean {
  return row.generation === sidecar.generation && row.root === sidecar.root && row.digestsRoot === sidecar.digestsRoot;
}

interface Verification {
  readonly blobs: Blobs;
  readonly rules: Rules;
  readonly damage: Damage;
  /** What each backup reads as, by the digests, as far as it is known. */
  readonly reads: Map<string, readonly string[]>;
}

/** What the backup reads as, in digests; undefined when that cannot be said. */
function verifyBackup(run: Verification, id: string): readonly string[] | undefined {
  const known = run.reads.get(id);
  if (known || run.damage.has(id)) return known;
  const pair = openPair(run.blobs, run.rules, id);
  if (isFault(pair)) {
    run.damage.set(id, pair.fault);
    return undefined;
  }
  const { sidecar } = pair;
  const file = getDigests(run.blobs, id, sidecar.generation);
  const own = file ? ownFault(pair, file) : 'digests are missing';
  if (!file || own) {
    run.damage.set(id, own ?? 'digests are missing');
    return undefined;
  }
  let below: readonly string[] | null = null;
  if (sidecar.parent !== null) {
    const parent = verifyBackup(run, sidecar.parent);
    const parentPair = openPair(run.blobs, run.rules, sidecar.parent);
    // The parent is named, this one is hit: its own part is as it should be.
    if (!parent || isFault(parentPair)) return undefined;
    const binding = bindingFault(run.rules, sidecar, parentPair.sidecar);
    if (binding) {
      run.damage.set(id, binding.fault);
      return undefined;
    }
    below = parent;
  }
  const read = overlayDigests(below, file);
  const content = contentFault(run.rules, pair, file, read);
  if (content) run.damage.set(id, content);
  else run.reads.set(id, read);
  return content ? undefined : read;
}

/** What can be said of image, sidecar and digests without looking down the chain. */
function ownFault({ sidecar, image }: Pair, file: Digests): string | undefined {
  if (digestsRoot(file) !== sidecar.digestsRoot) return 'digests do not fit the sidecar';
  if (structureOf(image) !== sidecar.structure) return 'structure of the image does not fit the sidecar';
  if (image.size !== sidecar.size || file.size !== sidecar.size) return 'sizes differ';
  return clusterFault(image, file);
}

const checkedClusters = new WeakMap<Image, WeakMap<Digests, string>>();

/** Every cluster against its entry. */
function clusterFault(image: Image, file: Digests): string | undefined {
  const known = checkedClusters.get(image)?.get(file);
  if (known !== undefined) return known || undefined;
  let fault = '';
  for (let index = 0; index < clusterCount(image.size); index++) {
    const value = image.map[index] ?? ABSENT;
    const entry = file.entries[index] ?? null;
    const expected = value === ABSENT ? null : value === ZERO ? ZERO_HASH : digestOf(value);
    if (entry !== expected) fault ||= `cluster ${index} does not fit its digest`;
  }
  if (!checkedClusters.has(image)) checkedClusters.set(image, new WeakMap());
  checkedClusters.get(image)?.set(file, fault);
  return fault || undefined;
}

const overlays = new WeakMap<Digests, Map<readonly string[] | null, readonly string[]>>();

function overlayDigests(below: readonly string[] | null, file: Digests): readonly string[] {
  const known = overlays.get(file) ?? new Map<readonly string[] | null, readonly string[]>();
  const read = known.get(below) ?? digestsOver(below, file);
  overlays.set(file, known.set(below, read));
  return read;
}

const ranges = new WeakMap<readonly string[], string[]>();

/** The range hashes and the content root, computed from nothing but entries. */
function contentFault(rules: Rules, { sidecar }: Pair, file: Digests, read: readonly string[]): string | undefined {
  const expected = ranges.get(read) ?? rangesOf(rules, read);
  ranges.set(read, expected);
  if (expected.length !== file.ranges.length || expected.some((hash, range) => hash !== file.ranges[range]))
    return 'range hashes do not fit the clusters';
  return contentRoot(sidecar.size, expected) === sidecar.root ? undefined : 'content root does not fit the clusters';
}
