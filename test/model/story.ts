// A story: what happens to one repository, as plain data that can be printed, cut shorter and told again.

import { backUp } from './backup.ts';
import { type BackupType, type Blob, isJournalName, listSidecars, sidecarName } from './blobs.ts';
import { type Change, planDamage } from './damage.ts';
import { MAX_CLUSTERS, resizeDisk, writeCluster } from './disk-model.ts';
import { checkForgeries } from './forgery.ts';
import { mergeInto } from './merge.ts';
import { deleteBackup, recover } from './recover.ts';
import type { Rules } from './rules.ts';
import {
  advanceReader,
  checkSettled,
  checkState,
  landLate,
  mergedAway,
  openWorld,
  runProcess,
  startReader,
  type Timing,
  type World,
} from './scheduler.ts';
import { DONE, openSite, type Process } from './site.ts';
import { verify } from './verify.ts';

export const DEEDS = ['write', 'resize', 'backup', 'merge', 'delete', 'recover', 'read', 'land', 'forget', 'damage', 'repair'] as const;
export type Deed = (typeof DEEDS)[number];

/** `a` and `b` mean what the deed makes of them. */
export interface Event extends Timing {
  readonly deed: Deed;
  readonly a: number;
  readonly b: number;
}
export interface Story {
  readonly size: number;
  readonly events: readonly Event[];
}

const NEVER: Timing = { crash: -1, late: false, land: -1, pace: 0 };
/** So few that a cluster often gets back what it had before. */
const FEW_VALUES = [0, 1, 6, 11];
/** Answers that are nobody's fault. */
const REFUSALS = [DONE, 'crashed', 'nothing to merge', 'no such backup', 'has dependents'];
const TYPES: readonly BackupType[] = ['incremental', 'incremental', 'incremental', 'differential', 'full'];

interface Telling {
  readonly world: World;
  /** What a name held before, for replays of an old state. */
  readonly older: Map<string, Blob>;
  readonly seen: Map<string, Blob>;
  change: Change | undefined;
}

/** Throws when the story goes wrong. */
export function tellStory(story: Story, rules: Rules, traced = false): readonly string[] {
  const telling: Telling = {
    world: openWorld(openSite(rules, 1 + (story.size % (MAX_CLUSTERS * 2))), traced),
    older: new Map(),
    seen: new Map(),
    change: undefined,
  };
  const { world } = telling;
  try {
    for (const event of story.events) {
      world.trace?.push(`${event.deed} ${event.a} ${event.b}${timingWords(event)}`);
      doDeed(telling, event);
      remember(telling);
    }
    endStory(telling);
  } catch (error) {
    if (!world.trace) throw error;
    throw new Error(`${world.trace.join('\n')}\n=> ${error instanceof Error ? error.message : error}`, { cause: error });
  }
  return world.trace ?? [];
}

function timingWords({ crash, late, land, pace }: Timing): string {
  return `${crash < 0 ? '' : ` crash before step ${crash}${late ? ', which lands late' : ''}`}${land < 0 ? '' : ` late steps land before step ${land}`}${pace ? ` reader ${pace}` : ''}`;
}

function doDeed(telling: Telling, event: Event): void {
  const { world } = telling;
  const { site } = world;
  switch (event.deed) {
    case 'write':
      for (let count = event.a % 3; count >= 0; count--)
        writeCluster(site.source, event.a + count, FEW_VALUES[event.b % FEW_VALUES.length]);
      break;
    case 'resize':
      resizeDisk(site.source, newSize(site.source.size, event.a, event.b));
      break;
    case 'backup':
      run(world, backUp(site, TYPES[event.a % TYPES.length]), event);
      break;
    case 'merge':
      run(world, mergeInto(site, pick(world, event.a), 1 + (event.b % 3)), event);
      break;
    case 'delete':
      run(world, deleteBackup(site, pick(world, event.a)), event);
      break;
    case 'recover':
      run(world, recover(site), event);
      break;
    case 'read':
      startReader(world, pick(world, event.a));
      break;
    case 'land':
      landLate(world);
      break;
    case 'forget':
      forgetRows(world);
      break;
    case 'damage':
      damage(telling, event);
      break;
    case 'repair':
      repair(telling);
      break;
  }
}

/** Mostly it grows a little, sometimes it shrinks. */
function newSize(size: number, a: number, b: number): number {
  const wanted = b % 4 === 0 ? 1 + (a % size) : size + (a % 9);
  return Math.min(wanted, MAX_CLUSTERS * 2);
}

function pick(world: World, number: number): string {
  const all = listSidecars(world.site.blobs);
  return all[number % Math.max(1, all.length)]?.id ?? 'nothing';
}

function run(world: World, process: Process, timing: Timing): void {
  const quiet = world.late.length === 0 || timing.land < 0;
  const outcome = runProcess(world, process, timing);
  world.trace?.push(`    = ${outcome}`);
  if (!world.damaged && quiet && !REFUSALS.includes(outcome)) throw new Error(`refused, though nothing is damaged: ${outcome}`);
  if (outcome === DONE && quiet && world.site.rules.has('recoverFirst')) checkSettled(world);
}

/** The catalog is lost, and with it which deletes had begun: the one thing that no repository can tell of a late step. */
function forgetRows({ site, damaged, late }: World): void {
  if (damaged) return;
  site.rows.clear();
  late.splice(0, late.length, ...late.filter((step) => step.op !== 'delete'));
}

/** Verify must name it; and then, while it lasts, nothing that is done may make it worse. */
function damage(telling: Telling, event: Event): void {
  const { world } = telling;
  const { site } = world;
  if (world.damaged) return;
  const change = planDamage(site.blobs, site.rows, telling.older, event.a, event.b);
  if (!change) return;
  world.damaged = true;
  world.leaving = mergedAway(site.blobs);
  world.reader = undefined;
  telling.change = change;
  world.trace?.push(`    ${change.what}`);
  if (change.damaged) site.blobs.set(change.name, change.damaged);
  else site.blobs.delete(change.name);
  site.version++;
  const found = verify(site.blobs, site.rules, site.rows);
  if (!change.owners.some((id) => found.has(id))) throw new Error(`verify does not name ${change.owners}, only ${[...found.keys()]}`);
}

/** The damaged thing is put back as it was, unless its backup was deleted meanwhile. */
function repair({ world, ...telling }: Telling): void {
  const { site } = world;
  const { change } = telling;
  if (!world.damaged || !change) return;
  const wanted = isJournalName(change.name) || change.owners.some((id) => world.promised.has(id) || site.blobs.has(sidecarName(id)));
  if (wanted && site.blobs.get(change.name) === change.damaged) site.blobs.set(change.name, change.original);
  site.version++;
  world.damaged = false;
  checkState(world);
}

/** What changed under a name is kept once, so that it can come back. */
function remember({ world, older, seen }: Telling): void {
  if (world.damaged) return;
  for (const [name, blob] of world.site.blobs) {
    const before = seen.get(name);
    if (before && before !== blob) older.set(name, before);
    seen.set(name, blob);
  }
  for (const [name, blob] of seen) if (!world.site.blobs.has(name)) older.set(name, blob);
}

/** In the end everything is put right, twice: what lands last may leave rubbish. */
function endStory(telling: Telling): void {
  const { world } = telling;
  repair(telling);
  run(world, recover(world.site), NEVER);
  landLate(world);
  run(world, recover(world.site), NEVER);
  while (advanceReader(world));
  checkState(world);
  checkSettled(world);
  checkForgeries(world.site.blobs, world.site.rules, world.site.rows, telling.older, world.site.counter);
}
