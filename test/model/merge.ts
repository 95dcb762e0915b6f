// A merge as a process: a run of adjacent backups into its one child, and the steps after the image, which recovery takes too.

import { viewChain } from './backup.ts';
import {
  type Digests,
  digestsName,
  type Image,
  imageName,
  type Journal,
  journalName,
  listSidecars,
  type Sidecar,
  sealJournal,
  sealSidecar,
  sidecarName,
} from './blobs.ts';
import { contentRoot, digestOf, digestsOver, digestsRoot, rangesAfter, structureOf, ZERO_HASH } from './digest-model.ts';
import { ABSENT, clusterCount } from './disk-model.ts';
import { childrenKnown, finishMerge, settle } from './recover.ts';
import { DONE, type Process, type Site } from './site.ts';

/** Merges up to `length` backups below `target` into it. */
export function* mergeInto(site: Site, target: string, length: number): Process {
  const settled = yield* settle(site);
  if (settled !== DONE) return settled;
  const plan = planMerge(site, target, length);
  if (typeof plan === 'string') return plan;
  const { image, digests, journal } = plan;
  const { generation } = image;
  // The new sidecar in the journal has the digest of the new image's structure: the image is written first, and gets its name later.
  yield { op: 'stage', image };
  if (!(yield { op: 'put', name: digestsName(target, generation), blob: digests, when: 'absent' })) return 'digests exist';
  const writeJournal = { op: 'put', name: journalName(target, generation), blob: journal, when: 'absent' } as const;
  if (site.rules.has('journalBeforeImage') && !(yield writeJournal)) return 'another merge is at work';
  if (!site.rules.has('imageBeforeSidecar')) yield { op: 'put', name: sidecarName(target), blob: journal.next, when: 'always' };
  if (!site.rules.has('imageBeforeRemoval')) yield* removeMerged(journal);
  if (!(yield { op: 'finish', name: imageName(target), image, when: 'always' })) return 'image could not be finished';
  if (!site.rules.has('journalBeforeImage')) yield writeJournal;
  return yield* finishMerge(site, journal);
}

/** The mistake of removing what the image still needs. */
function* removeMerged(journal: Journal): Process {
  for (const { id } of journal.merged) yield { op: 'delete', name: sidecarName(id) };
  return DONE;
}

interface MergePlan {
  readonly image: Image;
  readonly digests: Digests;
  readonly journal: Journal;
}

/** Reads metadata, and the clusters it copies; changes nothing. */
function planMerge(site: Site, target: string, length: number): MergePlan | string {
  if (!site.blobs.has(sidecarName(target))) return 'no such backup';
  if (!childrenKnown(site)) return 'a sidecar is unreadable or missing';
  const view = viewChain(site, target);
  if (typeof view === 'string') return `chain is damaged: ${view}`;
  const run = chooseRun(site, view.pairs.map((pair) => pair.sidecar), length); // biome-ignore format: one thought
  if (run.length === 0) return 'nothing to merge';
  const old = view.pairs[0].sidecar;
  const oldest = run[run.length - 1];
  const layers = view.pairs.slice(0, run.length + 1).map((pair, index) => ({ image: pair.image, file: view.files[index] }));
  const union = uniteClusters(site, layers, old.size, oldest.type === 'full' || !site.rules.has('zerosStay'));
  if (typeof union === 'string') return union;
  const head = { id: target, generation: nextGeneration(site, old), size: old.size };
  const image: Image = { kind: 'image', ...head, backing: oldest.parent, map: union.map };
  const below = view.files.slice(run.length + 1).reduceRight<string[] | null>((read, file) => digestsOver(read, file), null);
  const read = digestsOver(below, { kind: 'digests', ...head, entries: union.entries, ranges: [] });
  // From what the new parent reads as and what the result decides, as a backup's are: not taken over from the old file.
  const ranges = rangesAfter(site.rules, view.files[run.length + 1]?.ranges ?? [], read, union.entries);
  const digests: Digests = { kind: 'digests', ...head, entries: union.entries, ranges };
  if (contentRoot(old.size, ranges) !== old.root) return 'the result would read as something else';
  const { checksum: _, ...fields } = old;
  const next = sealSidecar({
    ...fields,
    type: oldest.type,
    parent: oldest.parent,
    parentRoot: oldest.parentRoot,
    generation: head.generation,
    digestsRoot: digestsRoot(digests),
    structure: structureOf(image),
  });
  const merged = run.map(({ id, generation }) => ({ id, generation }));
  if (!site.rules.has('newestFirst')) merged.reverse();
  return { image, digests, journal: sealJournal({ kind: 'journal', target, oldGeneration: old.generation, next, merged }) };
}

/** The product adds a random number, so that it need not remember what was used before. */
function nextGeneration(site: Site, old: Sidecar): number {
  return site.rules.has('freshGeneration') ? old.generation + ++site.counter : old.generation + 1;
}

/** The run below the first of `chain`, newest first, cut before a backup that has another child too. */
function chooseRun(site: Site, chain: readonly Sidecar[], length: number): Sidecar[] {
  const run: Sidecar[] = [];
  const all = listSidecars(site.blobs);
  for (const sidecar of chain.slice(1, 1 + length)) {
    const children = all.filter((other) => other.parent === sidecar.id).length;
    if (children !== 1) break;
    run.push(sidecar);
  }
  return run;
}

/** What the run and its child decide, the newest winning, every copied cluster compared with its digest. */
function uniteClusters(
  site: Site,
  layers: readonly { readonly image: Image; readonly file: Digests }[],
  size: number,
  dropZeros: boolean,
): { map: number[]; entries: (string | null)[] } | string {
  const map: number[] = [];
  const entries: (string | null)[] = [];
  for (let index = 0; index < clusterCount(size); index++) {
    const layer = layers.find(({ file }) => (file.entries[index] ?? null) !== null);
    const entry = layer?.file.entries[index] ?? null;
    const value = layer?.image.map[index] ?? ABSENT;
    if (layer && site.rules.has('copyChecks') && (value === ABSENT || digestOf(value) !== entry))
      return `${layer.image.id}: cluster ${index} is damaged`;
    const dropped = entry === ZERO_HASH && dropZeros;
    map.push(dropped ? ABSENT : value);
    entries.push(dropped ? null : entry);
  }
  return { map, entries };
}
