// The table of space reservations: how much room running jobs will still take in a repository.
// It must not judge whether an owner is alive, nor whether something fits: control/space.ts does.

import { isoTime, newId } from '../plumbing/clock.ts';
import type { Catalog } from './catalog.ts';
import { instant, integer, text } from './column.ts';
import { type Owner, ownerColumn } from './owner-fields.ts';
import { list, sql } from './sql.ts';
import { defineTable, insert, remove, select, type TableRow, update } from './table.ts';

export const SPACE_RESERVATIONS = defineTable('space_reservations', {
  id: text(64),
  repository_id: text(64),
  job_id: text(64),
  bytes: integer,
  owner: ownerColumn,
  created_at: instant,
  expires_at: instant,
});

export type SpaceReservation = TableRow<typeof SPACE_RESERVATIONS>;

export interface NewReservation {
  readonly repositoryId: string;
  readonly jobId: string;
  readonly owner: Owner;
  readonly bytes: number;
  /** Milliseconds from now, unless renewed. */
  readonly expiry: number;
}

/** The new one, and those that were there before it: of two that come at once, one sees the other and not the other way round. */
export interface Reserved {
  readonly id: string;
  readonly others: readonly SpaceReservation[];
}

export function addReservation(catalog: Catalog, { repositoryId, jobId, owner, bytes, expiry }: NewReservation): Promise<Reserved> {
  return catalog.transaction(async (unit) => {
    const others = await listReservations(unit, repositoryId);
    const id = newId(unit.clock);
    const now = unit.clock.now();
    const times = { created_at: isoTime(now), expires_at: isoTime(now + expiry) };
    await insert(unit, SPACE_RESERVATIONS, { id, repository_id: repositoryId, job_id: jobId, bytes, owner, ...times });
    return { id, others };
  });
}

export function listReservations(catalog: Catalog, repositoryId: string): Promise<readonly SpaceReservation[]> {
  return select(catalog, SPACE_RESERVATIONS, sql`where repository_id = ${repositoryId} order by created_at, id`);
}

/** What is still to be written, and that its job lives. */
export async function renewReservation(catalog: Catalog, id: string, bytes: number, expiry: number): Promise<void> {
  const set = { bytes, expires_at: isoTime(catalog.clock.now() + expiry) };
  await update(catalog, SPACE_RESERVATIONS, set, sql`id = ${id}`, { durable: false });
}

export async function removeReservations(catalog: Catalog, ids: readonly string[]): Promise<void> {
  if (ids.length > 0) await remove(catalog, SPACE_RESERVATIONS, sql`id in ${list(ids)}`);
}

/** Of a job that has ended, or whose process died. */
export async function removeReservationsOfJob(catalog: Catalog, jobId: string): Promise<void> {
  await remove(catalog, SPACE_RESERVATIONS, sql`job_id = ${jobId}`);
}
