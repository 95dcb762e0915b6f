// One story: a disk lives by chance, is backed up at every step, and backups are deleted again. What must be there afterwards is known.
// What a step itself answers is judged here; what can be read back is judged in judges.ts.

import type { Random } from '../random.ts';
import type { Keeper, Kept } from './keeper.ts';
import { type Choice, expectBackup, isNeeded, type Point } from './known-chains.ts';
import { bytesOf, countNewClusters, nextDisk, padded, remember } from './known-disk.ts';
import { needsWholeSectors, removeSource, writeSource } from './written-sources.ts';

export interface StoryOptions {
  readonly keeper: Keeper;
  readonly random: Random;
  /** How many backups are made. */
  readonly steps: number;
  /** The disk is written to files whose names begin with this. */
  readonly path: string;
}

export interface Story {
  /** Those that are there at the end, oldest first. */
  readonly points: readonly Point[];
  readonly removed: readonly Point[];
  readonly faults: readonly string[];
}

// What is left of a story is in memory and is read back often: a long one has a smaller disk.
const STORY_BYTES = 240 * 2 ** 20;
const SMALLEST_CLUSTER = 512;
const SHAPES = [
  { clusterSize: SMALLEST_CLUSTER, mostBytes: 400_000 },
  { clusterSize: SMALLEST_CLUSTER, mostBytes: 9 << 20 },
  { clusterSize: 1024, mostBytes: 600_000 },
  { clusterSize: 4096, mostBytes: 3 << 20 },
  { clusterSize: 16_384, mostBytes: 5 << 20 },
  { clusterSize: 65_536, mostBytes: 12 << 20 },
  { clusterSize: 65_536, mostBytes: 100_000 },
  { clusterSize: 262_144, mostBytes: 12 << 20 },
  { clusterSize: 2 << 20, mostBytes: 14 << 20 },
] as const;

export async function tellStory({ keeper, random, steps, path }: StoryOptions): Promise<Story> {
  const shape = random.pick(SHAPES);
  const mostBytes = Math.min(shape.mostBytes, Math.max(3 * shape.clusterSize, Math.floor(STORY_BYTES / steps)));
  // Of a single chain the last points are as deep as the story is long.
  const oneChain = random.chance(steps > 20 ? 0.9 : 0.5);
  let disk: Buffer = Buffer.alloc(random.chance(0.08) ? random.below(2) : 1 + random.below(mostBytes));
  const points: Point[] = [];
  const removed: Point[] = [];
  const faults: string[] = [];
  for (let step = 0; step < steps; step++) {
    const past = points.map((point) => point.content);
    disk = nextDisk(disk, past, { grain: shape.clusterSize, mayShrink: !oneChain }, random);
    const kind = random.pick(keeper.kinds);
    if (needsWholeSectors(kind)) disk = padded(disk);
    const choice = chooseBackup(points, { clusterSize: step === 0 ? shape.clusterSize : undefined, oneChain }, random);
    const newest = points.at(-1);
    const other = newest && random.chance(0.8) ? bytesOf(newest.content) : Buffer.alloc(random.below(2 * disk.length + 1));
    const source = writeSource(kind, { disk, other: padded(other), path, random });
    const kept = await keeper.backUp(source, choice);
    removeSource(path);
    const point = enter(points, disk, choice, kept);
    faults.push(...judgeAnswer(point, points, choice, kept).map((fault) => `step ${step} (${kind}): ${fault}`));
    points.push(point);
    if (random.chance(oneChain ? 0.04 : 0.1)) await removeOne(keeper, points, removed, faults, random);
  }
  return { points, removed, faults };
}

/** Only `auto` and `full` go well whatever is there, and only they may ask for another size of clusters. */
function chooseBackup(
  points: readonly Point[],
  { clusterSize, oneChain }: { readonly clusterSize: number | undefined; readonly oneChain: boolean },
  random: Random,
): Choice {
  const compression = random.pick(['none', 'zstd'] as const);
  if (points.length === 0 || clusterSize) return { type: random.pick(['auto', 'full']), compression, clusterSize };
  if (oneChain) return { type: random.pick(['auto', 'incremental']), compression, clusterSize: undefined };
  const draw = random.fraction();
  if (draw < 0.02) return { type: random.pick(['auto', 'full']), compression, clusterSize: SMALLEST_CLUSTER << random.below(13) };
  const type = draw < 0.04 ? 'full' : draw < 0.14 ? 'differential' : draw < 0.35 ? 'incremental' : 'auto';
  return { type, compression, clusterSize: undefined };
}

const DEFAULT_CLUSTER = 65_536;

function enter(points: readonly Point[], disk: Buffer, choice: Choice, kept: Kept): Point {
  const { parent } = expectBackup(points, choice, disk.length);
  return {
    id: kept.id,
    type: kept.type,
    parent,
    chain: parent?.chain ?? kept.id,
    clusterSize: parent?.clusterSize ?? choice.clusterSize ?? DEFAULT_CLUSTER,
    content: remember(disk, points.at(-1)?.content),
  };
}

/** Type and parent by the rules, and not a cluster stored more or less than what changed. */
function judgeAnswer(point: Point, before: readonly Point[], choice: Choice, kept: Kept): string[] {
  const expected = expectBackup(before, choice, point.content.size);
  const parent = expected.parent?.content;
  const clusters = countNewClusters(bytesOf(point.content), parent ? bytesOf(parent) : Buffer.alloc(0), point.clusterSize);
  const found = [
    ['type', kept.type, expected.type],
    ['parent', kept.parent, expected.parent?.id ?? null],
    ['number of clusters stored', kept.clustersWritten, clusters],
  ] as const;
  return found.flatMap(([what, is, should]) => (is === should ? [] : [`the ${what} of ${kept.id} is ${is} and not ${should}`]));
}

/** Mostly the newest, so that the next backup goes on from the one before; also any other, which is refused while it is needed. */
async function removeOne(keeper: Keeper, points: Point[], removed: Point[], faults: string[], random: Random): Promise<void> {
  const newest = points.at(-1);
  const point = random.chance(0.7) ? newest : random.pick(points);
  if (!point) return;
  const needed = isNeeded(point, points);
  const refusal = await keeper.remove(point.id);
  const expected = needed ? 'BACKUP_HAS_DEPENDENTS' : undefined;
  if (refusal !== expected) faults.push(`deleting ${point.id} answered ${refusal ?? 'well'} and not ${expected ?? 'well'}`);
  if (refusal !== undefined) return;
  points.splice(points.indexOf(point), 1);
  removed.push(point);
}
