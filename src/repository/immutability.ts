// The settings of immutability as the marker of a repository carries them, and which of two is the stronger one.
// It must not be lenient to a lower value: where two places disagree, each setting counts as the stronger one has it.

import type { Fields } from './fields.ts';

export interface Immutability {
  /** How the store locks: `linux_chattr`, `s3_object_lock`, `azure_worm`. Says nothing about dates. */
  readonly type: string;
  /** 0: backups are not locked by these settings; dates that are there count all the same. */
  readonly min_retention_days: number;
  /** Only where a protection is a mark on a file (StoreCapabilities.retentionMark). */
  readonly grace_period_days: number;
  readonly apply_to_full_backups: boolean;
  readonly apply_to_incrementals: boolean;
  /** When `auto` starts another chain, so that the locks of this one can end. */
  readonly full_after_days: number;
  readonly full_after_backups: number;
}

export const FULL_AFTER_DAYS = 7;
export const FULL_AFTER_BACKUPS = 30;

/** Fields that an older version did not write get their defaults. Throws an Error with what is wrong. */
export function parseImmutability(fields: Fields): Immutability {
  return {
    type: typeof fields.type === 'string' ? fields.type : 'linux_chattr',
    min_retention_days: days(fields, 'min_retention_days', undefined),
    grace_period_days: days(fields, 'grace_period_days', 0),
    apply_to_full_backups: flag(fields, 'apply_to_full_backups'),
    apply_to_incrementals: flag(fields, 'apply_to_incrementals'),
    full_after_days: days(fields, 'full_after_days', FULL_AFTER_DAYS),
    full_after_backups: days(fields, 'full_after_backups', FULL_AFTER_BACKUPS),
  };
}

/** The catalog's settings and the marker's: whatever one of them asks for is kept. `type` is that of the first. */
export function strongest(one: Immutability | undefined, other: Immutability | undefined): Immutability | undefined {
  if (!one || !other) return one ?? other;
  return {
    type: one.type,
    min_retention_days: Math.max(one.min_retention_days, other.min_retention_days),
    grace_period_days: Math.min(one.grace_period_days, other.grace_period_days),
    apply_to_full_backups: one.apply_to_full_backups || other.apply_to_full_backups,
    apply_to_incrementals: one.apply_to_incrementals || other.apply_to_incrementals,
    full_after_days: Math.min(one.full_after_days, other.full_after_days),
    full_after_backups: Math.min(one.full_after_backups, other.full_after_backups),
  };
}

/** Is anything of `next` weaker than in `present`? How often a full is made protects nothing, and may go either way. */
export function isWeaker(next: Immutability | undefined, present: Immutability | undefined): boolean {
  if (!present) return false;
  if (!next) return true;
  return (
    next.min_retention_days < present.min_retention_days ||
    next.grace_period_days > present.grace_period_days ||
    (present.apply_to_full_backups && !next.apply_to_full_backups) ||
    (present.apply_to_incrementals && !next.apply_to_incrementals)
  );
}

export function isSameImmutability(one: Immutability | undefined, other: Immutability | undefined): boolean {
  if (!one || !other) return one === other;
  return JSON.stringify({ ...one, type: '' }, Object.keys(one).sort()) === JSON.stringify({ ...other, type: '' }, Object.keys(one).sort());
}

function days(fields: Fields, name: string, missing: number | undefined): number {
  const value = fields[name] ?? missing;
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new Error(`${name} is no number`);
}

function flag(fields: Fields, name: string): boolean {
  const value = fields[name] ?? true;
  if (typeof value === 'boolean') return value;
  throw new Error(`${name} is neither true nor false`);
}
