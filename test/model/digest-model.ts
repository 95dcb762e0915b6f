// Digests, range hashes and the content root, as the product computes them, over the model's small disks.

import { hash } from 'node:crypto';
import type { Digests, Image } from './blobs.ts';
import { ABSENT, type Content, clusterCount, RANGE_CLUSTERS, VALUES, ZERO } from './disk-model.ts';
import type { Rules } from './rules.ts';

/** Stands for 32 zero bytes: a cluster or a range that reads as zero. */
export const ZERO_HASH = '0';

const memory = new Map<string, string>();

/** SHA-256 cut short, remembered: stories repeat the same few values. */
export function hashOf(text: string): string {
  let known = memory.get(text);
  if (known === undefined) {
    known = hash('sha256', text).slice(0, 16);
    if (memory.size > 100_000) memory.clear();
    memory.set(text, known);
  }
  return known;
}

const clusterDigests = Array.from({ length: VALUES }, (_, value) => (value === ZERO ? ZERO_HASH : hashOf(`cluster:${value}`)));

export function digestOf(value: number): string {
  return clusterDigests[value];
}

export function digestsOf(content: Content): string[] {
  return content.map(digestOf);
}

export function rangeHash(rules: Rules, read: readonly string[], range: number): string {
  const start = range * RANGE_CLUSTERS;
  const end = rules.has('paddedRanges') ? start + RANGE_CLUSTERS : Math.min(start + RANGE_CLUSTERS, read.length);
  let text = 'range';
  let zero = true;
  for (let index = start; index < end; index++) {
    const digest = index < read.length ? read[index] : ZERO_HASH;
    if (digest !== ZERO_HASH) zero = false;
    text += `:${digest}`;
  }
  return zero ? ZERO_HASH : hashOf(text);
}

/** Every range hash anew, from what every cluster reads as. */
export function rangesOf(rules: Rules, read: readonly string[]): string[] {
  return Array.from({ length: Math.ceil(read.length / RANGE_CLUSTERS) }, (_, range) => rangeHash(rules, read, range));
}

/** Range hashes of a child: the parent's where it touches nothing, zero ranges where the disk grew. */
export function rangesAfter(
  rules: Rules,
  before: readonly string[],
  read: readonly string[],
  touched: readonly (string | null)[],
): string[] {
  const ranges = Array.from({ length: Math.ceil(read.length / RANGE_CLUSTERS) }, (_, range) => before[range] ?? ZERO_HASH);
  const dirty = new Set<number>();
  touched.forEach((entry, index) => {
    if (entry !== null) dirty.add(Math.floor(index / RANGE_CLUSTERS));
  });
  for (const range of dirty) ranges[range] = rangeHash(rules, read, range);
  return ranges;
}

/** Cluster size, exact size of the disk, and every range in order. */
export function contentRoot(size: number, ranges: readonly string[]): string {
  return hashOf(`root:2:${size}:${ranges.join(':')}`);
}

const digestsRoots = new WeakMap<Digests, string>();

/** Over the whole digests file, its head included. */
export function digestsRoot(file: Digests): string {
  let root = digestsRoots.get(file);
  if (root === undefined) {
    root = hashOf(`digests:${file.id}:${file.generation}:${file.size}:${file.entries.join()}:${file.ranges.join()}`);
    digestsRoots.set(file, root);
  }
  return root;
}

const structures = new WeakMap<Image, string>();

/** Over header, tables and refcounts: everything of an image but the data. */
export function structureOf(image: Image): string {
  let structure = structures.get(image);
  if (structure === undefined) {
    const kinds = image.map.map((value) => (value > ZERO ? 'd' : value === ZERO ? 'z' : '.')).join('');
    structure = hashOf(`image:${image.id}:${image.generation}:${image.backing}:${image.size}:${kinds}`);
    structures.set(image, structure);
  }
  return structure;
}

/** An image over what lies below it. Beyond the end of what lies below there is zero. */
export function readOver(below: Content | null, image: Image): Content {
  return Array.from({ length: clusterCount(image.size) }, (_, index) => {
    const own = image.map[index] ?? ABSENT;
    return own === ABSENT ? (below?.[index] ?? ZERO) : own;
  });
}

/** The same of digests. */
export function digestsOver(below: readonly string[] | null, file: Digests): string[] {
  return Array.from({ length: clusterCount(file.size) }, (_, index) => file.entries[index] ?? below?.[index] ?? ZERO_HASH);
}
