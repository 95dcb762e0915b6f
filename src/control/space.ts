// Room in a repository, reserved before it is written: of several jobs that come at once, none is let in for room that another one will take.
// It must not measure by itself, and does not keep anybody from writing more than he said: then the store refuses.

import type { Catalog } from '../catalog/catalog.ts';
import type { Owner } from '../catalog/owner-fields.ts';
import {
  addReservation,
  listReservations,
  removeReservations,
  renewReservation,
  type SpaceReservation,
} from '../catalog/space-reservations.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import type { Logger } from '../plumbing/logger.ts';
import type { StoreCapacity } from '../store/blob-store.ts';
import type { BackupEstimate } from './estimate-backup.ts';
import { fillLevel, REFUSE_AT, usedPercentage, WARN_AT } from './fill-level.ts';
import { isProvablyDead } from './owner.ts';

export interface SpaceWanted {
  readonly repository: { readonly id: string; readonly name: string };
  readonly jobId: string;
  readonly owner: Owner;
  readonly logger: Logger;
  /** How much room there is, at the moment of the call. */
  readonly measure: () => Promise<StoreCapacity | undefined>;
  /** Milliseconds between renewals; default 5 000. */
  readonly heartbeat?: number;
  /** Milliseconds after the last renewal until nobody counts with it; default 60 000. */
  readonly expiry?: number;
}

export interface Space {
  /**
   * Throws INSUFFICIENT_STORAGE, with both numbers, where it does not fit beside what others have reserved, or the repository is full. A part that has
   * a reservation keeps it where that is large enough. Where the store cannot tell, it is said in the log and nothing is refused.
   */
  reserve(part: number, estimate: BackupEstimate): Promise<void>;
  /** From now on the reservation of the part becomes smaller by what is written. */
  follow(part: number, written: () => number): void;
  /** The part is written: what is in the store needs no reservation any more. */
  release(part: number): Promise<void>;
}

interface Held {
  readonly id: string;
  readonly bytes: number;
  written: () => number;
}

/** Whatever `work` has reserved is given back at its end. */
export async function withSpace<T>(catalog: Catalog, wanted: SpaceWanted, work: (space: Space) => Promise<T>): Promise<T> {
  const { logger, heartbeat = 5000, expiry = 60_000 } = wanted;
  const held = new Map<number, Held>();
  const complain = (error: unknown): void =>
    logger.log('warn', 'the catalog could not be told how much room is reserved', { error: String(error) });
  const renew = async (): Promise<void> => {
    for (const { id, bytes, written } of held.values()) await renewReservation(catalog, id, Math.max(0, bytes - written()), expiry);
  };
  const timer = setInterval(() => void renew().catch(complain), heartbeat).unref();
  const release = async (...parts: readonly number[]): Promise<void> => {
    const ids = parts.flatMap((part) => held.get(part)?.id ?? []);
    for (const part of parts) held.delete(part);
    await removeReservations(catalog, ids).catch(complain);
  };
  try {
    return await work({
      reserve: async (part, estimate) => {
        const before = held.get(part);
        if (before && before.bytes >= estimate.bytes) {
          held.set(part, { ...before, bytes: estimate.bytes });
          return renew();
        }
        const id = await reserve(catalog, { ...wanted, expiry }, estimate, before?.id);
        if (before) await release(part);
        held.set(part, { id, bytes: estimate.bytes, written: () => 0 });
      },
      follow: (part, written) => {
        const mine = held.get(part);
        if (mine) mine.written = written;
      },
      release: (part) => release(part),
    });
  } finally {
    clearInterval(timer);
    await release(...held.keys());
  }
}

/** Would it fit at this moment? For a plan that reserves nothing. */
export async function checkSpace(catalog: Catalog, wanted: Omit<SpaceWanted, 'jobId'>, estimate: BackupEstimate): Promise<void> {
  const others = await listReservations(catalog, wanted.repository.id);
  await assertFits(catalog, wanted, estimate, others);
}

/**
 * First the reservation, then the look at the room: what another job writes between the two is counted twice and never left out. Only who came before
 * counts, so that of two for the last room exactly one is refused.
 */
async function reserve(
  catalog: Catalog,
  wanted: SpaceWanted & { readonly expiry: number },
  estimate: BackupEstimate,
  own?: string,
): Promise<string> {
  const { repository, jobId, owner, expiry } = wanted;
  const { id, others } = await addReservation(catalog, { repositoryId: repository.id, jobId, owner, bytes: estimate.bytes, expiry });
  try {
    await assertFits(
      catalog,
      wanted,
      estimate,
      others.filter((other) => other.id !== own),
    );
    return id;
  } catch (error) {
    await removeReservations(catalog, [id]);
    throw error;
  }
}

async function assertFits(
  catalog: Catalog,
  { repository, owner, logger, measure }: Omit<SpaceWanted, 'jobId'>,
  estimate: BackupEstimate,
  others: readonly SpaceReservation[],
): Promise<void> {
  const reserved = sumOfLiving(catalog, others, owner);
  const capacity = await measure();
  const level = fillLevel(capacity);
  if (!capacity || level === 'unknown') {
    logger.log('warn', `the store of ${repository.name} does not tell how much is free: whether the backup fits will be seen`, {
      estimated_bytes: estimate.bytes,
    });
    return;
  }
  const used = usedPercentage(capacity);
  const numbers = {
    repository: repository.name,
    required_bytes: estimate.bytes,
    available_bytes: capacity.availableBytes,
    reserved_bytes: reserved,
    used_percentage: used,
  };
  if (level === 'full') {
    throw noRoom(`the repository ${repository.name} is ${used} % full (${capacity.availableBytes} bytes are free)`, numbers);
  }
  if (estimate.bytes + reserved > capacity.availableBytes) {
    const taken = reserved > 0 ? `, of which running jobs have reserved ${reserved}` : '';
    const what = `${estimate.bytes} bytes may be needed (${estimate.basis})`;
    throw noRoom(`no room in ${repository.name}: ${what}, ${capacity.availableBytes} are free${taken}`, numbers);
  }
  if (level === 'warning') {
    logger.log('warn', `the repository ${repository.name} is ${used} % full; from ${REFUSE_AT} % it takes no backups`, {
      ...numbers,
      warn_at: WARN_AT,
    });
  }
}

function sumOfLiving(catalog: Catalog, reservations: readonly SpaceReservation[], self: Owner): number {
  const counts = ({ owner, expires_at: expires }: SpaceReservation): boolean =>
    Date.parse(expires) > catalog.clock.now() && !isProvablyDead(owner, self);
  return reservations.filter(counts).reduce((sum, { bytes }) => sum + bytes, 0);
}

/** What running jobs will still write there. */
export async function reservedBytes(catalog: Catalog, repositoryId: string, self: Owner): Promise<number> {
  return sumOfLiving(catalog, await listReservations(catalog, repositoryId), self);
}

function noRoom(message: string, context: Readonly<Record<string, string | number>>): ChainkeepError {
  return new ChainkeepError('INSUFFICIENT_STORAGE', message, {
    advice: 'free space there (delete backups), make it larger, or use another repository; nothing was read yet',
    context,
  });
}
