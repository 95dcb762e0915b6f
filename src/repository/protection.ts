// What forbids to delete a backup, read from the files beside it: locks with a date, and holds. docs/format/protection.md describes them.
// It must not take anything for unprotected because it cannot be read: a hold that is damaged holds.

import type { Blake3 } from '../plumbing/blake3.ts';
import { isoTime } from '../plumbing/clock.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import type { BlobInfo, BlobStore } from '../store/blob-store.ts';
import { readBlob } from './blobs.ts';
import { type Fields, textField } from './fields.ts';
import { parseCompactTime, parseProtectionName } from './layout.ts';
import { parseSealed } from './sealed-json.ts';

export interface Hold {
  /** The n of its file. */
  readonly number: number;
  readonly holdId: string;
  readonly reason: string;
  readonly createdBy: string;
  readonly createdAt: string;
  readonly liftedBy: string | null;
  readonly liftedAt: string | null;
}

export interface Protection {
  /** The latest date of all locks, in UTC; null without a lock. */
  readonly lockedUntil: string | null;
  readonly holds: readonly Hold[];
  readonly damage: readonly ChainkeepError[];
}

export function isActive({ liftedAt }: Hold): boolean {
  return liftedAt === null;
}

const NUMBER = /^([1-9]\d{0,8})(\.lifted)?\.json$/;
const ID = /^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$/;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
// A reason is a sentence or two.
const MOST_BYTES = 64 * 1024;

/** Backup id → what protects it, for those that have such files in `listed`. */
export async function readProtections(
  store: BlobStore,
  blake3: Blake3,
  listed: readonly BlobInfo[],
): Promise<ReadonlyMap<string, Protection>> {
  const byBackup = new Map<string, BlobInfo[]>();
  for (const info of listed) {
    const backupId = parseProtectionName(info.name)?.backupId;
    if (backupId !== undefined) byBackup.set(backupId, [...(byBackup.get(backupId) ?? []), info]);
  }
  const protections = new Map<string, Protection>();
  for (const [backupId, files] of byBackup) protections.set(backupId, await readProtection(store, blake3, backupId, files));
  return protections;
}

async function readProtection(store: BlobStore, blake3: Blake3, backupId: string, files: readonly BlobInfo[]): Promise<Protection> {
  const damage: ChainkeepError[] = [];
  const dates: string[] = [];
  const numbers = new Map<number, { hold?: BlobInfo; lifted?: BlobInfo }>();
  for (const info of files) {
    const file = parseProtectionName(info.name);
    const [, number, lifted] = NUMBER.exec(file?.rest ?? '') ?? [];
    const date = file?.kind === 'lock' ? parseCompactTime(file.rest) : undefined;
    if (date !== undefined) dates.push(isoTime(date));
    else if (file?.kind === 'hold' && number !== undefined) {
      numbers.set(Number(number), { ...numbers.get(Number(number)), [lifted ? 'lifted' : 'hold']: info });
    } else {
      const advice = 'the backup counts as held; give the file its right name again, or take it away if it never was one of Chainkeep';
      damage.push(invalid(backupId, info.name, 'its name says neither a date nor a number', advice));
    }
  }
  const holds: Hold[] = [];
  for (const [number, { hold, lifted }] of numbers) {
    const read = await readHold(store, blake3, { backupId, number, hold, lifted });
    holds.push(read.hold);
    damage.push(...read.damage);
  }
  return { lockedUntil: dates.sort().at(-1) ?? null, holds, damage };
}

interface HoldFiles {
  readonly backupId: string;
  readonly number: number;
  readonly hold: BlobInfo | undefined;
  readonly lifted: BlobInfo | undefined;
}

/** What cannot be read is held, and not lifted. */
async function readHold(
  store: BlobStore,
  blake3: Blake3,
  { backupId, number, hold, lifted }: HoldFiles,
): Promise<{ readonly hold: Hold; readonly damage: readonly ChainkeepError[] }> {
  const damage: ChainkeepError[] = [];
  const read = async (info: BlobInfo | undefined): Promise<Fields | undefined> => {
    if (!info) return undefined;
    const fields = await readFields(store, blake3, backupId, info.name);
    if (!(fields instanceof ChainkeepError)) return fields;
    damage.push(fields);
    return undefined;
  };
  const held = await read(hold);
  const freed = await read(lifted);
  if (!hold && lifted) damage.push(invalid(backupId, lifted.name, 'it lifts a hold that is not there'));
  const holdId = held ? textField(held, 'hold_id') : damagedHoldId(blake3, backupId, number);
  const fits = held && freed && freed.hold_id === holdId;
  if (held && freed && !fits && lifted) damage.push(invalid(backupId, lifted.name, 'it lifts another hold'));
  return {
    damage,
    hold: {
      number,
      holdId,
      reason: held ? textField(held, 'reason') : 'the file of this hold cannot be read',
      createdBy: held ? textField(held, 'by') : 'unknown',
      createdAt: held ? textField(held, 'at') : isoTime((hold ?? lifted)?.modifiedAt ?? 0),
      liftedBy: fits ? textField(freed, 'by') : null,
      liftedAt: fits ? textField(freed, 'at') : null,
    },
  };
}

const DAMAGED_HOLD = 'damaged-hold-';

function damagedHoldId(blake3: Blake3, backupId: string, number: number): string {
  const name = Buffer.from(blake3.hash(Buffer.from(`${backupId}.${number}`))).toString('hex');
  return `${DAMAGED_HOLD}${name.slice(0, 32)}`;
}

/** The id that stands for a hold whose own cannot be read. */
export function isDamagedHoldId(id: string): boolean {
  return id.startsWith(DAMAGED_HOLD);
}

async function readFields(store: BlobStore, blake3: Blake3, backupId: string, name: string): Promise<Fields | ChainkeepError> {
  let bytes: Uint8Array | undefined;
  try {
    bytes = await readBlob(store, name, { mostBytes: MOST_BYTES, refuse: (what) => invalid(backupId, name, what) });
  } catch (error) {
    if (error instanceof ChainkeepError && error.code === 'PROTECTION_INVALID') return error;
    throw error;
  }
  if (!bytes) return invalid(backupId, name, 'it vanished while it was read');
  const unsealed = parseSealed(blake3, bytes);
  if ('fault' in unsealed) return invalid(backupId, name, unsealed.fault);
  const { value } = unsealed;
  try {
    if (value.format !== 1) throw new Error(`it has format ${String(value.format)}, this version knows 1`);
    if (textField(value, 'backup_id', ID) !== backupId) throw new Error('it belongs to another backup');
    textField(value, 'hold_id', ID);
    textField(value, 'by');
    textField(value, 'at', TIME);
    if (!/\.lifted\.json$/.test(name)) textField(value, 'reason');
    return value;
  } catch (error) {
    return invalid(backupId, name, error instanceof Error ? error.message : String(error));
  }
}

function invalid(
  backupId: string,
  name: string,
  what: string,
  advice = 'the backup counts as held; bring the file back from a copy',
): ChainkeepError {
  return new ChainkeepError('PROTECTION_INVALID', `${name.slice(name.lastIndexOf('/') + 1)} is damaged: ${what}`, {
    advice,
    context: { backup_id: backupId },
  });
}
