// A backup as a process: settle, plan, then image, digests, sidecar, catalog row. The sidecar is the commit.

import {
  type BackupType,
  type Digests,
  digestsName,
  getDigests,
  type Image,
  imageName,
  listSidecars,
  type Sidecar,
  sealSidecar,
  sidecarName,
} from './blobs.ts';
import { contentRoot, digestOf, digestsOver, digestsRoot, rangesAfter, structureOf, ZERO_HASH } from './digest-model.ts';
import { ABSENT, clusterCount } from './disk-model.ts';
import { isFault, openChain, type Pair } from './reader.ts';
import { settle } from './recover.ts';
import { completedRow, DONE, type Process, type Site } from './site.ts';

/** A chain as its digests tell it. */
export interface ChainView {
  readonly pairs: readonly Pair[];
  /** Oldest last, as `pairs`. */
  readonly files: readonly Digests[];
  /** Per cluster of the newest: what it reads as. */
  readonly read: readonly string[];
}

/** The chain of `id` with its digests, or why it cannot be trusted. */
export function viewChain(site: Site, id: string): ChainView | string {
  const pairs = openChain(site.blobs, site.rules, id);
  if (isFault(pairs)) return `${pairs.id}: ${pairs.fault}`;
  const files: Digests[] = [];
  for (const { sidecar } of pairs) {
    const file = getDigests(site.blobs, sidecar.id, sidecar.generation);
    if (!file || digestsRoot(file) !== sidecar.digestsRoot) return `${sidecar.id}: digests missing or damaged`;
    files.push(file);
  }
  return { pairs, files, read: files.reduceRight<string[] | null>((below, file) => digestsOver(below, file), null) ?? [] };
}

export function* backUp(site: Site, wanted: BackupType): Process {
  const settled = yield* settle(site);
  if (settled !== DONE) return settled;
  const plan = planBackup(site, wanted);
  if (typeof plan === 'string') return plan;
  const { image, digests, sidecar } = plan;
  const { id } = image;
  site.truth.set(id, { content: [...site.source.clusters], size: site.source.size });
  yield { op: 'rows', what: `${id} is running`, change: (rows) => rows.set(id, { ...completedRow(sidecar), state: 'running' }) };
  const early = !site.rules.has('sidecarLast');
  if (early) yield { op: 'put', name: sidecarName(id), blob: sidecar, when: 'absent' };
  yield { op: 'stage', image };
  if (!(yield { op: 'finish', name: imageName(id), image, when: 'absent' })) return 'image could not be finished';
  if (!(yield { op: 'put', name: digestsName(id, 1), blob: digests, when: 'absent' })) return 'digests exist';
  if (!early && !(yield { op: 'put', name: sidecarName(id), blob: sidecar, when: 'absent' })) return 'given up by recovery meanwhile';
  yield { op: 'rows', what: `${id} is completed`, change: (rows) => rows.set(id, completedRow(sidecar)) };
  return DONE;
}

interface BackupPlan {
  readonly image: Image;
  readonly digests: Digests;
  readonly sidecar: Sidecar;
}

function planBackup(site: Site, wanted: BackupType): BackupPlan | string {
  const parent = chooseParent(site, wanted);
  const below = parent ? viewChain(site, parent.id) : undefined;
  if (typeof below === 'string') return `chain is damaged: ${below}`;
  const seq = ++site.counter;
  const head = { id: `b${seq}`, generation: 1, size: site.source.size };
  const { map, entries } = decideClusters(site, below);
  const image: Image = { kind: 'image', ...head, backing: parent?.id ?? null, map };
  const read = digestsOver(below?.read ?? null, { kind: 'digests', ...head, entries, ranges: [] });
  const digests: Digests = {
    kind: 'digests',
    ...head,
    entries,
    ranges: rangesAfter(site.rules, below?.files[0].ranges ?? [], read, entries),
  };
  const sidecar = sealSidecar({
    kind: 'sidecar',
    ...head,
    type: parent ? wanted : 'full',
    parent: parent?.id ?? null,
    parentRoot: parent?.root ?? null,
    root: contentRoot(head.size, digests.ranges),
    chain: parent?.chain ?? `c${seq}`,
    seq,
    digestsRoot: digestsRoot(digests),
    structure: structureOf(image),
  });
  return { image, digests, sidecar };
}

/** Of the current chain, which is that of the newest full: the newest of all, or the full. A disk that shrank gets a full. */
function chooseParent(site: Site, wanted: BackupType): Sidecar | undefined {
  if (wanted === 'full') return undefined;
  const all = listSidecars(site.blobs);
  const full = all.findLast((sidecar) => sidecar.type === 'full');
  const parent = wanted === 'differential' ? full : all.findLast((sidecar) => sidecar.chain === full?.chain);
  return parent && parent.size <= site.source.size ? parent : undefined;
}

/** Stored is what differs from what the parent reads as; zero is never stored as data. */
function decideClusters(site: Site, below: ChainView | undefined): { map: number[]; entries: (string | null)[] } {
  const map: number[] = [];
  const entries: (string | null)[] = [];
  for (let index = 0; index < clusterCount(site.source.size); index++) {
    const value = site.source.clusters[index];
    const digest = digestOf(value);
    const same = digest === parentDigest(site, below, index);
    map.push(same ? ABSENT : value);
    entries.push(same ? null : digest);
  }
  return { map, entries };
}

function parentDigest(site: Site, below: ChainView | undefined, index: number): string {
  if (site.rules.has('comparesWithWhatReads')) return below?.read[index] ?? ZERO_HASH;
  // The mistake: the newest data entry down the chain, over the heads of zeros that hide it.
  const newest = below?.files.find((file) => (file.entries[index] ?? ZERO_HASH) !== ZERO_HASH);
  return newest?.entries[index] ?? ZERO_HASH;
}
