// Every table that the program reads, with the column that its rows are told apart by.
// It must not be loaded at every start: only the check of a whole database needs all of them.

import { BACKUP_CHAINS } from './backup-chains.ts';
import { BACKUP_COPIES } from './backup-copies.ts';
import { BACKUP_JOBS } from './backup-jobs.ts';
import { BACKUP_REPOSITORIES } from './backup-repositories.ts';
import { HOLDS } from './holds.ts';
import { JOB_HEARTBEATS } from './job-heartbeats.ts';
import { JOB_STEPS } from './job-steps.ts';
import { JOB_TRACKING } from './job-tracking.ts';
import { LEASES } from './leases.ts';
import { LOG_EVENTS } from './log-events.ts';
import { PUSH_COMPLETIONS } from './push-completions.ts';
import { READERS } from './readers.ts';
import { SECRETS } from './secrets.ts';
import { SETTINGS } from './settings.ts';
import { SPACE_RESERVATIONS } from './space-reservations.ts';
import { STORAGE_SAMPLES } from './storage-samples.ts';
import type { Columns, Table } from './table.ts';
import { VM_CONTEXTS } from './vm-contexts.ts';

export interface KnownTable {
  readonly table: Table<Columns>;
  readonly key: string;
}

export const KNOWN_TABLES: readonly KnownTable[] = [
  { table: SETTINGS, key: 'name' },
  { table: BACKUP_REPOSITORIES, key: 'id' },
  { table: SECRETS, key: 'id' },
  { table: VM_CONTEXTS, key: 'context_id' },
  { table: BACKUP_JOBS, key: 'id' },
  { table: BACKUP_CHAINS, key: 'id' },
  { table: BACKUP_COPIES, key: 'id' },
  { table: HOLDS, key: 'id' },
  { table: JOB_TRACKING, key: 'id' },
  { table: JOB_STEPS, key: 'id' },
  { table: LOG_EVENTS, key: 'id' },
  { table: JOB_HEARTBEATS, key: 'job_id' },
  { table: PUSH_COMPLETIONS, key: 'job_id' },
  { table: LEASES, key: 'id' },
  { table: READERS, key: 'id' },
  { table: SPACE_RESERVATIONS, key: 'id' },
  { table: STORAGE_SAMPLES, key: 'id' },
];
