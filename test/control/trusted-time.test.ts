// Which clocks are believed, and what a clock that jumped may do: nothing at all.

import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { type ClockReading, confirmClock, judgeClock, readTrustedTime, type SeenTime } from '../../src/control/trusted-time.ts';
import { openScratch, type SetClock, setClock } from '../catalog/scratch-catalog.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const NOW = Date.UTC(2026, 10, 22);
const MACHINE = { id: 'machine a', bootId: 'boot-1' };

function reading(change: Partial<ClockReading> = {}): ClockReading {
  return { wall: NOW, boot: { since: 10 * DAY, at: NOW - 10 * DAY }, bootId: 'boot-1', store: undefined, ...change };
}

/** Seen an hour ago, in the same boot. */
const SEEN: SeenTime = { highWater: NOW - HOUR, anchor: { boot_id: 'boot-1', wall: NOW - HOUR, since_boot: 10 * DAY - HOUR } };
const setTo = (wall: number): Partial<ClockReading> => ({ wall, boot: { since: 10 * DAY, at: wall - 10 * DAY } });

describe('a clock is believed', () => {
  it('when it went on as the time since the start of the machine did', () => {
    expect(judgeClock(SEEN, reading())).toEqual({ now: NOW, expireAt: NOW, jump: 0 });
    expect(judgeClock({ highWater: undefined, anchor: undefined }, reading())).toMatchObject({ jump: 0 });
  });

  it('within an hour, and locks expire by the earlier one', () => {
    expect(judgeClock(SEEN, reading(setTo(NOW + HOUR)))).toEqual({ now: NOW + HOUR, expireAt: NOW, jump: 0 });
    expect(judgeClock(SEEN, reading(setTo(NOW - HOUR)))).toEqual({ now: NOW - HOUR, expireAt: NOW - HOUR, jump: 0 });
  });

  it('after a start of the machine, when it was looked at a day before, or the store agrees', () => {
    const rebooted = reading({ bootId: 'boot-2', boot: { since: HOUR, at: NOW - HOUR } });
    expect(judgeClock({ ...SEEN, highWater: NOW - 25 * HOUR }, rebooted).jump).toBe(0);
    expect(judgeClock({ ...SEEN, highWater: NOW - 26 * HOUR }, rebooted).jump).toBe(26 * HOUR);
    expect(judgeClock({ ...SEEN, highWater: NOW - 400 * DAY }, { ...rebooted, store: NOW + HOUR }).jump).toBe(0);
    expect(judgeClock({ ...SEEN, highWater: NOW - HOUR }, { ...rebooted, store: NOW + 2 * HOUR }).jump).toBe(-2 * HOUR);
  });
});

describe('nothing expires', () => {
  it.each([1.01 * HOUR, 400 * DAY, -1.01 * HOUR, -400 * DAY])('when it jumped by %d ms since the machine was started', (jump) => {
    const verdict = judgeClock(SEEN, reading(setTo(NOW + jump)));
    expect(verdict).toMatchObject({ jump, expireAt: undefined, now: NOW });
    expect(verdict.problem).toContain(jump > 0 ? 'ahead of' : 'behind');
  });

  it('when this process sees another time than the kernel, whatever was seen before and the store says', () => {
    for (const jump of [400 * DAY, -400 * DAY]) {
      const shimmed = reading({ wall: NOW + jump, boot: { since: 10 * DAY, at: NOW - 10 * DAY } });
      expect(judgeClock({ highWater: undefined, anchor: undefined }, shimmed)).toMatchObject({ jump, expireAt: undefined, now: NOW });
      expect(judgeClock(SEEN, { ...shimmed, store: NOW + jump })).toMatchObject({ jump, expireAt: undefined });
    }
  });

  it('when the machine was started with a clock behind what was seen of any machine', () => {
    const verdict = judgeClock({ highWater: NOW, anchor: undefined }, reading({ ...setTo(NOW - 2 * HOUR), bootId: 'boot-2' }));
    expect(verdict).toMatchObject({ jump: -2 * HOUR, expireAt: undefined, now: NOW });
  });

  it('earlier by any two clocks than by the earlier of both, and new dates begin with the later', () => {
    const times = fc.integer({ min: NOW - 500 * DAY, max: NOW + 500 * DAY });
    fc.assert(
      fc.property(
        fc.option(times, { nil: undefined }),
        times,
        times,
        fc.option(times, { nil: undefined }),
        (highWater, seen, wall, store) => {
          const anchor = { boot_id: 'boot-1', wall: seen, since_boot: 10 * DAY };
          const verdict = judgeClock({ highWater, anchor }, reading({ ...setTo(wall), store }));
          if (verdict.expireAt !== undefined) {
            expect(verdict.expireAt).toBeLessThanOrEqual(Math.min(wall, store ?? wall, seen));
            expect(verdict.now).toBeGreaterThanOrEqual(Math.max(wall, store ?? wall, highWater ?? wall));
          }
          expect(verdict.now).toBeGreaterThanOrEqual(Math.max(highWater ?? 0, store ?? 0));
        },
      ),
    );
  });
});

describe('what the catalog remembers', () => {
  let catalog: Catalog;
  let clock: SetClock;

  beforeEach(async () => {
    clock = setClock(NOW);
    ({ catalog } = await openScratch(clock));
  });

  it('small steps do not add up in one boot', async () => {
    await readTrustedTime(catalog, MACHINE);
    for (let step = 0; step < 10; step += 1) {
      clock.advance(HOUR);
      clock.jump(HOUR / 2);
      const { jump, expireAt } = await readTrustedTime(catalog, MACHINE);
      if (step < 2) expect(expireAt).toBe(NOW + (step + 1) * HOUR);
      else expect(jump).toBe((step + 1) * (HOUR / 2));
    }
  });

  it('a jump moves no mark, and is over when the clock is right again or somebody confirms it', async () => {
    await readTrustedTime(catalog, MACHINE);
    for (const jump of [400 * DAY, -400 * DAY]) {
      clock.jump(jump);
      for (let look = 0; look < 3; look += 1) {
        clock.advance(HOUR);
        expect((await readTrustedTime(catalog, MACHINE)).jump).toBe(jump);
        expect((await readTrustedTime(catalog, { id: 'machine b', bootId: 'boot-9' })).expireAt).toBeUndefined();
      }
      clock.jump(-jump);
      expect((await readTrustedTime(catalog, MACHINE)).jump).toBe(0);
    }
    clock.jump(-400 * DAY);
    const { before } = await confirmClock(catalog, MACHINE);
    expect(before.jump).toBe(-400 * DAY);
    expect((await readTrustedTime(catalog, MACHINE)).expireAt).toBe(clock.now());
    clock.jump(400 * DAY);
    expect((await readTrustedTime(catalog, MACHINE)).jump).toBe(400 * DAY);
  });
});
