// The rules of lock dates, against made-up chains of every form: what is locked stays locked, and what it needs with it.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isoTime } from '../../src/plumbing/clock.ts';
import { type Immutability, isSameImmutability, isWeaker, strongest } from '../../src/repository/immutability.ts';
import { DAY_MS, lockBase, markDue, ownLock, planHolds, planLocks } from '../../src/repository/lock-rules.ts';
import type { BackupType } from '../../src/repository/sidecar-fields.ts';
import { WEEK } from './lock-site.ts';

const START = Date.UTC(2026, 10, 22);

interface MadeUp {
  readonly backup_id: string;
  readonly parent_backup_id: string | null;
  readonly backup_type: BackupType;
  readonly completed_at: string;
}

function idOf(index: number, at: number): string {
  return `${isoTime(at)
    .replace(/[-:.Z]/g, '')
    .toLowerCase()}-${String(index).padStart(8, '0')}`;
}

/** A disk's backups: chains and trees, oldest first, each child on any older backup. */
const disks = fc
  .array(fc.record({ parent: fc.option(fc.nat()), type: fc.constantFrom('incremental', 'differential'), hours: fc.nat(72) }), {
    maxLength: 25,
  })
  .map((steps) => {
    const backups: MadeUp[] = [];
    let at = START;
    for (const [index, { parent, type, hours }] of steps.entries()) {
      at += hours * 3_600_000 + 1;
      const on = parent === null || backups.length === 0 ? undefined : backups[parent % backups.length];
      backups.push({
        backup_id: idOf(index, at),
        parent_backup_id: on?.backup_id ?? null,
        backup_type: on ? (type as BackupType) : 'full',
        completed_at: isoTime(at + 1000),
      });
    }
    return backups;
  });

const settings: fc.Arbitrary<Immutability> = fc.record({
  type: fc.constant('linux_chattr'),
  min_retention_days: fc.nat(60),
  grace_period_days: fc.nat(10),
  apply_to_full_backups: fc.boolean(),
  apply_to_incrementals: fc.boolean(),
  full_after_days: fc.constant(7),
  full_after_backups: fc.constant(30),
});

const dates = (backups: readonly MadeUp[]): fc.Arbitrary<Map<string, number>> =>
  fc
    .array(fc.option(fc.integer({ min: START, max: START + 200 * DAY_MS })), { minLength: backups.length, maxLength: backups.length })
    .map((given) => new Map(backups.flatMap(({ backup_id }, index) => (given[index] == null ? [] : [[backup_id, given[index]] as const]))));

const situations = disks.chain((backups) =>
  fc.record({
    backups: fc.constant(backups),
    present: dates(backups),
    settings: fc.option(settings, { nil: undefined }),
    days: fc.nat(150),
  }),
);

describe('lock dates', () => {
  it('are never shortened, and what a locked backup needs is locked at least as long', () => {
    fc.assert(
      fc.property(situations, ({ backups, present, settings, days }) => {
        const now = START + days * DAY_MS;
        const planned = planLocks(backups, present, settings, now);
        for (const [id, date] of present) expect(planned.get(id)).toBeGreaterThanOrEqual(date);
        for (const backup of backups) {
          const date = planned.get(backup.backup_id) ?? 0;
          const own = ownLock(backup, settings, now) ?? 0;
          const future = Date.parse(backup.completed_at) > now && present.has(backup.backup_id);
          if (own > now && !future) expect(date).toBeGreaterThanOrEqual(own);
          const parent = backup.parent_backup_id;
          if (parent !== null && date > now) expect(planned.get(parent)).toBeGreaterThanOrEqual(date);
        }
        // Nothing is locked for longer than somebody needs: the latest date of all, and the rest of its day.
        const latest = Math.max(0, ...present.values(), ...backups.map((backup) => ownLock(backup, settings, now) ?? 0));
        for (const date of planned.values()) expect(date).toBeLessThan(latest + DAY_MS);
      }),
      { numRuns: 500 },
    );
  });

  it('planned twice are the same, and a later plan only adds', () => {
    fc.assert(
      fc.property(situations, fc.nat(100), ({ backups, present, settings, days }, more) => {
        const now = START + days * DAY_MS;
        const first = planLocks(backups, present, settings, now);
        expect(planLocks(backups, first, settings, now)).toEqual(first);
        for (const [id, date] of first) {
          expect(planLocks(backups, first, settings, now + more * DAY_MS).get(id)).toBeGreaterThanOrEqual(date);
          expect(planLocks(backups, first, undefined, now).get(id)).toBeGreaterThanOrEqual(date);
        }
      }),
      { numRuns: 200 },
    );
  });

  it('a child that is added extends what it needs, and touches nothing else', () => {
    const [full, one, two] = [backup(0, null), backup(24, 0), backup(48, 0)];
    const week = { ...WEEK, apply_to_full_backups: false };
    const now = START + 50 * 3_600_000;
    const before = planLocks([full, one], new Map(), week, now);
    expect([...before.keys()]).toEqual([full.backup_id, one.backup_id]);
    const after = planLocks([full, one, two], before, week, now);
    expect(after.get(two.backup_id)).toBe(Date.parse(two.completed_at) + 7 * DAY_MS);
    expect(after.get(one.backup_id)).toBe(before.get(one.backup_id));
    expect(after.get(full.backup_id)).toBe(START + 10 * DAY_MS); // the midnight after the date of its child
  });

  it('of a chain that grows every hour are extended once a day', () => {
    const backups: MadeUp[] = [];
    let present = new Map<string, number>();
    const ofTheFull = new Set<number | undefined>();
    for (let hour = 0; hour < 72; hour += 1) {
      backups.push(backup(hour, hour === 0 ? null : hour - 1));
      present = planLocks(backups, present, WEEK, START + (hour + 1) * 3_600_000);
      ofTheFull.add(present.get(backups[0]?.backup_id ?? ''));
    }
    expect(ofTheFull.size).toBeLessThanOrEqual(5);
  });

  it('a date that is over is not written any more, and one that is there stays', () => {
    const [full] = [backup(0, null)];
    const late = START + 30 * DAY_MS;
    expect(planLocks([full], new Map(), WEEK, late).size).toBe(0);
    expect(planLocks([full], new Map([[full.backup_id, START + DAY_MS]]), WEEK, late).get(full.backup_id)).toBe(START + DAY_MS);
  });

  it('a loop of forged parents ends, and a forged year stays within what a name can hold', () => {
    const [a, b] = [backup(0, 1), backup(1, 0)];
    const planned = planLocks([a, b], new Map([[a.backup_id, START + 10.5 * DAY_MS]]), undefined, START);
    expect(planned.get(b.backup_id)).toBe(START + 11 * DAY_MS);
    const last = Date.UTC(9999, 11, 31, 23, 59, 59, 999);
    expect(
      planLocks([backup(0, null), backup(1, 0)], new Map([[backup(1, 0).backup_id, last]]), undefined, START).get(
        backup(0, null).backup_id,
      ),
    ).toBe(last);
  });

  it('of a backup from the future begins now, and does not move on', () => {
    const now = START + 10 * DAY_MS;
    const made = { ...backup(24, null), completed_at: isoTime(START + 400 * DAY_MS) };
    expect(lockBase(made, now)).toBe(now);
    const present = planLocks([made], new Map(), WEEK, now);
    expect(present.get(made.backup_id)).toBe(now + 7 * DAY_MS);
    expect(planLocks([made], present, WEEK, now + DAY_MS)).toEqual(present);
  });

  it('grace delays the mark and not the date', () => {
    const made = backup(0, null);
    const patient = { ...WEEK, grace_period_days: 3 };
    const now = START + DAY_MS;
    expect(planLocks([made], new Map(), patient, now)).toEqual(planLocks([made], new Map(), WEEK, now));
    expect(markDue(made, patient, now) - markDue(made, WEEK, now)).toBe(3 * DAY_MS);
  });
});

describe('holds', () => {
  it('hold everything that the backup needs, and nothing else', () => {
    fc.assert(
      fc.property(disks, fc.nat(), (backups, pick) => {
        const chosen = backups[pick % Math.max(1, backups.length)];
        if (!chosen) return;
        const held = planHolds(backups, new Set([chosen.backup_id]));
        const needed = new Set<string>();
        for (let at: MadeUp | undefined = chosen; at; ) {
          needed.add(at.backup_id);
          const { parent_backup_id: parent }: MadeUp = at;
          at = backups.find(({ backup_id }) => backup_id === parent);
        }
        expect(held).toEqual(needed);
      }),
    );
  });
});

describe('settings of immutability', () => {
  it('the stronger of two is weaker than neither, in whatever order they come', () => {
    fc.assert(
      fc.property(fc.option(settings, { nil: undefined }), fc.option(settings, { nil: undefined }), (one, other) => {
        const both = strongest(one, other);
        expect(isWeaker(both, one)).toBe(false);
        expect(isWeaker(both, other)).toBe(false);
        expect(isSameImmutability(both, strongest(other, one))).toBe(true);
        expect(isSameImmutability(strongest(both, one), both)).toBe(true);
      }),
    );
  });

  it('fewer days, a longer grace, and a type that is left out are weaker', () => {
    expect(isWeaker(undefined, WEEK)).toBe(true);
    expect(isWeaker({ ...WEEK, min_retention_days: 6 }, WEEK)).toBe(true);
    expect(isWeaker({ ...WEEK, grace_period_days: 1 }, WEEK)).toBe(true);
    expect(isWeaker({ ...WEEK, apply_to_incrementals: false }, WEEK)).toBe(true);
    expect(isWeaker({ ...WEEK, apply_to_full_backups: false }, WEEK)).toBe(true);
    expect(isWeaker({ ...WEEK, min_retention_days: 8, full_after_days: 90 }, WEEK)).toBe(false);
    expect(isWeaker(WEEK, undefined)).toBe(false);
  });
});

/** `hour` after the start, on the backup of the hour `parent`. */
function backup(hour: number, parent: number | null): MadeUp {
  const at = START + hour * 3_600_000;
  return {
    backup_id: idOf(hour, at),
    parent_backup_id: parent === null ? null : idOf(parent, START + parent * 3_600_000),
    backup_type: parent === null ? 'full' : 'incremental',
    completed_at: isoTime(at + 60_000),
  };
}
