// The part of the App's interface that is about locks, holds and the clock they end by. Others name it through app-interface.ts.

import type { JobWatch } from './app-job-interface.ts';

export interface ProtectOutcome {
  readonly job_id: string;
  readonly repository: string;
  readonly repository_id: string;
  /** What a lock is worth there: kept by the store against everybody, by us, or not by the store at all. */
  readonly retention: 'enforced' | 'advisory' | 'none';
  /** How files are marked where it is kept by us. */
  readonly retention_mark: 'attribute' | 'mode' | null;
  readonly disks: number;
  /** Disks that another process writes at the moment. */
  readonly busy: number;
  /** Backups that got a later date. */
  readonly locked: number;
  /** Files that are protected from now on. */
  readonly protected: number;
  /** Those of them from which somebody had taken the protection off. */
  readonly restored: readonly string[];
  readonly released: number;
  readonly failures: readonly { readonly code: string; readonly message: string }[];
}

export interface HoldView {
  readonly hold_id: string;
  readonly backup_id: string;
  readonly reason: string;
  /** Who: user and machine. */
  readonly by: string;
  readonly since: string;
  readonly lifted_by: string | null;
  readonly lifted_at: string | null;
  readonly repository: string;
}

export interface HoldOutcome extends HoldView {
  readonly job_id: string;
}

/** A hold in a listing. */
export interface ListedHold extends HoldView {
  readonly vm_name: string;
  readonly vm_context_id: string;
  readonly disk_id: number;
}

/** The reasons why backups may not be deleted. */
export interface Holds {
  add(backup: string, options: { readonly vm?: string; readonly reason: string }, watch: JobWatch): Promise<HoldOutcome>;
  /** The newest first; with `all` those that were lifted too. */
  list(filter: { readonly all: boolean; readonly repository?: string }): Promise<readonly ListedHold[]>;
  /** By its id or an unambiguous beginning of one. */
  lift(hold: string, watch: JobWatch): Promise<HoldOutcome>;
}

/** Whether locks expire by the clock of this machine. */
export interface ClockView {
  readonly time: string;
  readonly trusted: boolean;
  /** How far it is ahead (behind: negative) of what was to be expected; 0 while it is trusted. */
  readonly jump_ms: number;
  readonly problem: string | null;
}

export interface ClockCare {
  show(): Promise<ClockView>;
  /** Believes it as it is from now on. */
  confirm(watch: JobWatch): Promise<ClockView & { readonly job_id: string }>;
}
