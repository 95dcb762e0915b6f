// Runs the model's processes step by step: crashes them, lets the last step of a dead one land late, lets a slow reader look in
// between, and after every step asks whether every restore point still reads as it must.

import { type Blobs, getImage, getJournal, isJournalName, listSidecars, ownerOf, sidecarName } from './blobs.ts';
import { type Content, sameContent } from './disk-model.ts';
import { type Fault, isFault, readPlain, readPoint, readSlowly } from './reader.ts';
import { describe, type Op, type Outcome, type Process, perform, type Site } from './site.ts';
import { verify } from './verify.ts';

/** When the process dies, whether the step it was in still happens one day, when late steps land, and how fast the reader is. */
export interface Timing {
  /** Before which of its steps; -1 for never. */
  readonly crash: number;
  readonly late: boolean;
  /** Before which of the steps the late ones of others land; -1 for not now. */
  readonly land: number;
  /** Looks of the reader per step. */
  readonly pace: number;
}

export interface World {
  readonly site: Site;
  /** Reported as completed and not given up since: these must read, whatever happens. */
  readonly promised: Set<string>;
  readonly late: Op[];
  reader: { readonly id: string; readonly run: ReturnType<typeof readSlowly> } | undefined;
  /** While something is damaged nothing is checked. */
  damaged: boolean;
  /** What was being merged away when the damage came: it may have hit the journal that says so. */
  leaving: ReadonlySet<string>;
  /** A line per step, when somebody wants to read the story. */
  readonly trace: string[] | undefined;
}

export function openWorld(site: Site, traced: boolean): World {
  return { site, promised: new Set(), late: [], reader: undefined, damaged: false, leaving: new Set(), trace: traced ? [] : undefined };
}

/** Answers `crashed`, or what the process answers. */
export function runProcess(world: World, process: Process, timing: Timing): Outcome {
  let took = false;
  for (let count = 0; ; count++) {
    const step = process.next(took);
    if (step.done) return step.value;
    if (count === timing.crash) {
      // A change of the catalog carries the lease's own condition and cannot come late.
      if (timing.late && step.value.op !== 'rows' && step.value.op !== 'fence') world.late.push(step.value);
      return 'crashed';
    }
    if (count === timing.land) landLate(world);
    took = takeStep(world, step.value);
    for (let look = 0; look < timing.pace; look++) advanceReader(world);
  }
}

export function landLate(world: World): void {
  for (const step of world.late.splice(0)) {
    world.trace?.push('    (late step of a dead process)');
    takeStep(world, step);
  }
}

function takeStep(world: World, step: Op): boolean {
  const took = perform(world.site, step);
  world.trace?.push(`    ${describe(step)}${took ? '' : ' (no effect)'}`);
  keepPromises(world, step, took);
  // What has no name yet is seen by nobody.
  if (step.op !== 'stage' && step.op !== 'fence') checkState(world);
  return took;
}

/** What a step promises, and what it takes back. */
function keepPromises(world: World, step: Op, took: boolean): void {
  const { site, promised } = world;
  if (step.op === 'rows' || (step.op === 'delete' && isJournalName(step.name))) {
    const leaving = mergedAway(site.blobs);
    for (const [id, { state }] of site.rows) {
      if (state === 'deleting') promised.delete(id);
      if (state === 'completed' && !leaving.has(id) && !(world.damaged && world.leaving.has(id))) promised.add(id);
    }
  } else if (step.op === 'finish' && took) {
    for (const id of mergedAway(site.blobs)) promised.delete(id);
  } else if (step.op === 'delete' && !site.rules.has('rowSaysDeleting') && step.name === sidecarName(ownerOf(step.name))) {
    promised.delete(ownerOf(step.name));
  }
}

/** From the new image on, what is merged into it lives on in it alone. */
export function mergedAway(blobs: Blobs): Set<string> {
  const ids = new Set<string>();
  for (const [name, blob] of blobs) {
    if (blob.kind !== 'journal' || getJournal(blobs, ownerOf(name), blob.next.generation) !== blob) continue;
    if (getImage(blobs, blob.target)?.generation === blob.next.generation) for (const { id } of blob.merged) ids.add(id);
  }
  return ids;
}

/** Everything promised or listed reads as it must, by our rule and by qemu's, and verify finds nothing. */
export function checkState(world: World): void {
  if (world.damaged) return;
  const { site, promised } = world;
  const listed = new Set(listSidecars(site.blobs).map(({ id }) => id));
  for (const id of promised) if (!listed.has(id)) throw new Error(`${id} is promised and not listed`);
  for (const id of listed) {
    mustRead(site, id, readPoint(site.blobs, site.rules, id));
    mustRead(site, id, readPlain(site.blobs, id));
  }
  const [found] = verify(site.blobs, site.rules, site.rows);
  if (found) throw new Error(`verify: ${found.join(': ')}, though nothing is damaged`);
}

function mustRead(site: Site, id: string, content: Content | Fault): void {
  if (isFault(content)) throw new Error(`${id} does not read: ${content.id}: ${content.fault}`);
  const truth = site.truth.get(id);
  if (!truth || !sameContent(content, truth.content)) throw new Error(`${id} reads [${content}], not [${truth?.content}]`);
}

/** When a process has ended by itself: what is listed, what is promised and what the catalog holds are one; no rubbish. */
export function checkSettled(world: World): void {
  if (world.damaged) return;
  const { blobs, rows } = world.site;
  const ids = listSidecars(blobs).map(({ id }) => id);
  const same = (others: Iterable<string>) => [...others].sort().join() === [...ids].sort().join();
  if (!same(world.promised)) throw new Error(`listed ${ids}, promised ${[...world.promised]}`);
  if (!same(rows.keys())) throw new Error(`listed ${ids}, in the catalog ${[...rows.keys()]}`);
  const journal = [...blobs.keys()].find(isJournalName);
  if (journal) throw new Error(`${journal} is still there`);
  let expected = ids.length * 3;
  for (const blob of blobs.values()) if (blob.kind === 'discard') expected++;
  if (blobs.size !== expected) throw new Error(`rubbish: ${[...blobs.keys()].sort().join(' ')}`);
}

export function startReader(world: World, id: string): void {
  const { site } = world;
  if (!world.damaged) world.reader = { id, run: readSlowly(site.blobs, site.rules, id, () => site.version) };
}

/** One look. What the reader gives must be right; it may give up only on what is no longer promised. */
export function advanceReader(world: World): boolean {
  const { reader, site } = world;
  if (!reader || world.damaged) return false;
  const look = reader.run.next();
  if (!look.done) return true;
  world.reader = undefined;
  world.trace?.push(`    slow reader of ${reader.id}: ${isFault(look.value) ? look.value.fault : 'done'}`);
  if (!isFault(look.value) || world.promised.has(reader.id)) mustRead(site, reader.id, look.value);
  return false;
}
