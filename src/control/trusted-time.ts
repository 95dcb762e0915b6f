// Whether the clock of this machine can be believed, by what was seen of it before: the time since the start of the machine, the latest time that was
// believed, and the store's own clock. Locks expire by the answer; docs/decisions/0007-locks-and-clocks.md has the reasons.
// It must not move a mark because of a clock that jumped: only a person does, by `clock confirm`.

import type { Catalog } from '../catalog/catalog.ts';
import { findSetting, putSetting } from '../catalog/settings.ts';
import { type BootTime, isoTime } from '../plumbing/clock.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import type { LockTime } from '../repository/lock-rules.ts';
import type { Machine } from './machine.ts';

/** A larger difference is a jump. */
const JUMP_MS = 3_600_000;
/** Nothing tells a machine that was off from a clock that was set ahead while it was: up to here it was off. A run each day is enough. */
const UNWATCHED_MS = 25 * 3_600_000;
/** The mark is moved no more often than this. */
const MARK_EVERY_MS = 600_000;

const HIGH_WATER = 'clock';

/** What the wall clock said when this machine, in this boot, was first looked at and believed. Not moved in the same boot: small steps must not add up. */
interface Anchor {
  readonly boot_id: string;
  readonly wall: number;
  readonly since_boot: number;
}

/** What the catalog remembers. */
export interface SeenTime {
  /** The latest wall clock that was believed, on any machine. */
  readonly highWater: number | undefined;
  readonly anchor: Anchor | undefined;
}

/** What the clocks say at this moment. */
export interface ClockReading {
  readonly wall: number;
  readonly boot: BootTime | undefined;
  readonly bootId: string | null;
  /** The store's own clock, where it has one. */
  readonly store: number | undefined;
}

export interface ClockVerdict extends LockTime {
  /** Milliseconds that the clock of this machine is ahead (behind: negative) of what it should say; 0 while it is believed. */
  readonly jump: number;
}

/** Pure: what was seen and what is seen now decide. */
export function judgeClock({ highWater, anchor }: SeenTime, { wall, boot, bootId, store }: ClockReading): ClockVerdict {
  const sameBoot = anchor !== undefined && boot !== undefined && anchor.boot_id === bootId;
  const expected = sameBoot ? anchor.wall + (boot.since - anchor.since_boot) : undefined;
  const kernel = boot && boot.at + boot.since;
  const jump = findJump({ wall, kernel, expected, highWater, store });
  const shimmed = kernel !== undefined && Math.abs(wall - kernel) > JUMP_MS;
  const believed = jump === 0 ? wall : (expected ?? (shimmed ? kernel : highWater) ?? wall);
  const now = Math.max(believed, highWater ?? 0, store ?? 0);
  if (jump !== 0) return { now, expireAt: undefined, jump, problem: describeJump(jump, wall) };
  return { now, expireAt: Math.min(wall, store ?? wall, expected ?? wall), jump: 0 };
}

interface Clocks {
  readonly wall: number;
  readonly kernel: number | undefined;
  readonly expected: number | undefined;
  readonly highWater: number | undefined;
  readonly store: number | undefined;
}

function findJump({ wall, kernel, expected, highWater, store }: Clocks): number {
  const isFar = (other: number | undefined): boolean => other !== undefined && Math.abs(wall - other) > JUMP_MS;
  // A library was put between this process and the clock: it concerns nobody else, and no confirmation makes it good.
  if (isFar(kernel)) return wall - (kernel ?? wall);
  if (isFar(expected)) return wall - (expected ?? wall);
  // Another machine of this catalog, or an earlier boot of this one, was later already.
  if (highWater !== undefined && wall < highWater - JUMP_MS) return wall - highWater;
  if (expected !== undefined) return 0;
  if (store !== undefined) return isFar(store) ? wall - store : 0; // two clocks that agree need no third
  return highWater !== undefined && wall > highWater + UNWATCHED_MS ? wall - highWater : 0;
}

function describeJump(jump: number, wall: number): string {
  const hours = Math.abs(jump) / 3_600_000;
  const amount = hours > 72 ? `${Math.round(hours / 24)} days` : `${Math.round(hours * 10) / 10} hours`;
  return `the clock of this machine says ${isoTime(wall)}, which is ${amount} ${jump > 0 ? 'ahead of' : 'behind'} what was to be expected`;
}

/** Looks at the clocks; remembers what can be believed. `storeNow`: the store's own clock. */
export async function readTrustedTime(
  catalog: Catalog,
  machine: Machine,
  storeNow?: () => Promise<number | undefined>,
): Promise<ClockVerdict> {
  const reading = await readClocks(catalog, machine, storeNow);
  const seen = await findSeen(catalog, machine);
  const verdict = judgeClock(seen, reading);
  if (verdict.jump === 0 && isWorthKeeping(seen, reading)) await remember(catalog, machine, reading, { raiseOnly: true });
  return verdict;
}

/** Believes the clock as it is from now on. */
export async function confirmClock(catalog: Catalog, machine: Machine): Promise<{ readonly before: ClockVerdict; readonly wall: number }> {
  const reading = await readClocks(catalog, machine);
  const before = judgeClock(await findSeen(catalog, machine), reading);
  const { wall, boot } = reading;
  if (boot && Math.abs(wall - boot.at - boot.since) > JUMP_MS) {
    throw new ChainkeepError('CLOCK_JUMPED', `this process sees another time than the machine it runs on: ${before.problem}`, {
      advice: 'run chainkeep without what changes the time for it (faketime, LD_PRELOAD)',
      context: { time: isoTime(wall), time_of_machine: isoTime(boot.at + boot.since) },
    });
  }
  await remember(catalog, machine, reading, { raiseOnly: before.jump === 0 });
  return { before, wall: reading.wall };
}

async function readClocks({ clock }: Catalog, { bootId }: Machine, storeNow?: () => Promise<number | undefined>): Promise<ClockReading> {
  const store = await storeNow?.();
  return { wall: clock.now(), boot: clock.boot(), bootId, store };
}

async function findSeen(catalog: Catalog, machine: Machine): Promise<SeenTime> {
  const [mark, anchor] = [await findSetting(catalog, HIGH_WATER), await findSetting(catalog, anchorName(machine))];
  const { boot_id, wall, since_boot } = anchor ?? {};
  const known = typeof boot_id === 'string' && typeof wall === 'number' && typeof since_boot === 'number';
  return {
    highWater: typeof mark?.high_water === 'number' ? mark.high_water : undefined,
    anchor: known ? { boot_id, wall, since_boot } : undefined,
  };
}

function isWorthKeeping({ highWater, anchor }: SeenTime, { wall, boot, bootId }: ClockReading): boolean {
  const newBoot = boot !== undefined && bootId !== null && anchor?.boot_id !== bootId;
  return newBoot || highWater === undefined || wall > highWater + MARK_EVERY_MS;
}

async function remember(
  catalog: Catalog,
  machine: Machine,
  { wall, boot, bootId }: ClockReading,
  { raiseOnly }: { readonly raiseOnly: boolean },
): Promise<void> {
  await catalog.transaction(async (unit) => {
    const { highWater, anchor } = await findSeen(unit, machine);
    if (highWater === undefined || wall > highWater || !raiseOnly) await putSetting(unit, HIGH_WATER, { high_water: wall });
    if (boot === undefined || bootId === null || (raiseOnly && anchor?.boot_id === bootId)) return;
    await putSetting(unit, anchorName(machine), { boot_id: bootId, wall, since_boot: boot.since });
  });
}

function anchorName({ id }: Machine): string {
  return `clock of ${id}`.slice(0, 191);
}
