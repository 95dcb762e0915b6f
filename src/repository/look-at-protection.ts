// Compares what should protect the backups of one disk with what does, and says what is to be done. The rules of dates are in lock-rules.ts.
// It must not write anything: run-protection.ts does, and only what stands here.

import { isChainkeepError } from '../plumbing/errors.ts';
import { checkBlobName } from '../store/blob-name.ts';
import type { BlobInfo, BlobProtection } from '../store/blob-store.ts';
import { readListedFolder } from './disk-folder.ts';
import { type DiskPlace, diskFolder, lockFile, parseCompactTime, parseFileName, parseProtectionName } from './layout.ts';
import { type LockTime, markDue, planHolds, planLocks } from './lock-rules.ts';
import { isActive, type Protection, readProtections } from './protection.ts';
import type { RepositoryContext } from './repository-context.ts';
import type { Sidecar } from './sidecar-fields.ts';

export type ProtectionStep = { readonly backupId: string; readonly name: string } & (
  | { readonly action: 'lock' } // make the file of a date
  | { readonly action: 'protect'; readonly protection: BlobProtection /** It was protected before. */; readonly again: boolean }
  | { readonly action: 'release' } // a mark whose date is over
  | { readonly action: 'drop' } // the file of a date that a later one has taken over
);

export interface ProtectionPlan {
  readonly place: DiskPlace;
  /** In the order in which they are run: what others need is protected before them. */
  readonly steps: readonly ProtectionStep[];
  /** Backup id → its date when all is done. */
  readonly dates: ReadonlyMap<string, number>;
}

export interface LookOptions {
  /** Sidecars that are known already, and no others are read: of a chain. */
  readonly chain?: readonly Sidecar[];
  /** Only what these need is done; without it everything of the disk. */
  readonly only?: ReadonlySet<string>;
  /** When everything that was due was protected: what is not any more has lost its protection since. */
  readonly sweptAt?: number;
}

interface DiskState {
  readonly backups: readonly Sidecar[];
  readonly protections: ReadonlyMap<string, Protection>;
  /** Backup id → its files, those that protect it too, sorted by name. */
  readonly files: ReadonlyMap<string, readonly BlobInfo[]>;
}

export async function lookAtProtection(context: RepositoryContext, place: DiskPlace, options: LookOptions = {}): Promise<ProtectionPlan> {
  const state = await readState(context, place, options.chain);
  const { backups, protections } = state;
  const present = new Map<string, number>();
  for (const [id, { lockedUntil }] of protections) if (lockedUntil !== null) present.set(id, Date.parse(lockedUntil));
  if (!context.immutability && protections.size === 0) return { place, steps: [], dates: present };
  const time = await context.time();
  const dates = planLocks(backups, present, context.immutability, time.now);
  const heldNow = [...protections].filter(([, { holds }]) => holds.some(isActive)).map(([id]) => id);
  const held = planHolds(backups, new Set(heldNow));
  // What was held once may still carry a mark or a hold of the store.
  const freed = planHolds(backups, new Set([...protections].filter(([, { holds }]) => holds.length > 0).map(([id]) => id)));
  const steps: ProtectionStep[] = [];
  for (const id of [...new Set([...dates.keys(), ...held, ...freed])].sort()) {
    if (options.only && !options.only.has(id)) continue;
    const until = dates.get(id);
    const backup = backups.find(({ backup_id }) => backup_id === id);
    const look = { context, place, time, id, backup, until, present: present.get(id), isHeld: held.has(id), sweptAt: options.sweptAt };
    steps.push(...(await lookAtBackup(look, state.files.get(id) ?? [])));
  }
  return { place, steps, dates };
}

async function readState(context: RepositoryContext, place: DiskPlace, chain: readonly Sidecar[] | undefined): Promise<DiskState> {
  const { store, blake3 } = context;
  const listed: BlobInfo[] = [];
  for await (const info of store.list(diskFolder(place))) listed.push(info);
  const files = new Map<string, BlobInfo[]>();
  for (const info of listed) {
    const id = (parseFileName(info.name) ?? parseProtectionName(info.name))?.backupId;
    // What begins like a hold and goes on as no blob can is named by a rescan; nothing can be done with it.
    if (id !== undefined && isBlobName(info.name)) files.set(id, [...(files.get(id) ?? []), info]);
  }
  const backups = chain ?? (await readListedFolder(store, blake3, place, listed)).sidecars;
  return { backups, protections: await readProtections(store, blake3, listed), files };
}

interface BackupLook {
  readonly context: RepositoryContext;
  readonly place: DiskPlace;
  readonly time: LockTime;
  readonly id: string;
  readonly backup: Sidecar | undefined;
  readonly until: number | undefined;
  readonly present: number | undefined;
  readonly isHeld: boolean;
  readonly sweptAt: number | undefined;
}

async function lookAtBackup(look: BackupLook, infos: readonly BlobInfo[]): Promise<ProtectionStep[]> {
  const files = infos.map(({ name }) => name);
  const { id, place, until, present, isHeld, time, context } = look;
  const isOver = until === undefined || (time.expireAt !== undefined && until <= time.expireAt);
  const newLock = until !== undefined && until > (present ?? 0) ? diskFolder(place) + lockFile(id, until) : undefined;
  const steps: ProtectionStep[] = newLock === undefined ? [] : [{ backupId: id, action: 'lock', name: newLock }];
  const { retention, retentionMark } = context.store.capabilities;
  if (retention !== 'none') {
    // The file of the date comes last: where it is protected, the others are.
    const all = newLock === undefined ? files : [...files, newLock];
    if (retentionMark === undefined) steps.push(...(await lookAtDates(look, all, isOver)));
    else steps.push(...(await lookAtMarks(look, infos, { newLock, isNeeded: isHeld || !isOver })));
  }
  steps.push(...superseded(look, files, newLock === undefined ? 0 : (until ?? 0)));
  return steps;
}

/** In a store with marks: each file carries one, or none does. */
async function lookAtMarks(
  { context, id, backup, isHeld, until, sweptAt, time }: BackupLook,
  files: readonly BlobInfo[],
  { newLock, isNeeded }: { readonly newLock: string | undefined; readonly isNeeded: boolean },
): Promise<ProtectionStep[]> {
  // Of a backup whose sidecar cannot be read nothing says when it completed: it is marked at once.
  const due = backup ? markDue(backup, context.immutability, time.now) : 0;
  if (isNeeded && !isHeld && due > time.now) return [];
  const protection = until === undefined ? { hold: true } : { until };
  const steps: ProtectionStep[] = [];
  for (const { name, modifiedAt } of files) {
    const isMarked = (await protectionOf(context, name)) !== undefined;
    if (isMarked && !isNeeded) steps.push({ backupId: id, action: 'release', name });
    if (isMarked || !isNeeded) continue;
    const again = sweptAt !== undefined && due <= sweptAt && modifiedAt <= sweptAt;
    steps.push({ backupId: id, action: 'protect', name, protection, again });
  }
  if (newLock !== undefined && isNeeded) steps.push({ backupId: id, action: 'protect', name: newLock, protection, again: false });
  return steps;
}

/** In a store with dates: they cannot be taken off, and the last one that was set says of all. */
async function lookAtDates(
  { context, id, until, isHeld }: BackupLook,
  names: readonly string[],
  isOver: boolean,
): Promise<ProtectionStep[]> {
  const steps: ProtectionStep[] = [];
  const last = names.filter((name) => parseProtectionName(name)?.kind === 'lock').at(-1);
  const image = names.find((name) => parseFileName(name)?.kind === 'image');
  const step = (name: string, protection: BlobProtection): void => {
    steps.push({ backupId: id, action: 'protect', name, protection, again: false });
  };
  if (!isOver && until !== undefined && last !== undefined && ((await protectionOf(context, last))?.until ?? 0) < until) {
    for (const name of [...names.filter((other) => other !== last), last]) step(name, { until });
  }
  const isMarked = image !== undefined && (await protectionOf(context, image))?.hold === true;
  if (isHeld !== isMarked) for (const name of names) step(name, { hold: isHeld });
  return steps;
}

/** The latest date counts; earlier ones are in the way of nobody, and would be many. */
function superseded({ id, time, context }: BackupLook, files: readonly string[], coming: number): ProtectionStep[] {
  const locks = files.filter((name) => parseProtectionName(name)?.kind === 'lock' && lockDate(name) > 0);
  const isFree = (name: string): boolean =>
    context.store.capabilities.retentionMark !== undefined || (time.expireAt !== undefined && lockDate(name) <= time.expireAt);
  const newest = Math.max(coming, ...locks.map(lockDate));
  return locks.filter((name) => lockDate(name) < newest && isFree(name)).map((name) => ({ backupId: id, action: 'drop', name }));
}

function lockDate(name: string): number {
  return parseCompactTime(parseProtectionName(name)?.rest ?? '') ?? 0;
}

function isBlobName(name: string): boolean {
  try {
    checkBlobName(name);
    return true;
  } catch {
    return false;
  }
}

/** Undefined also for a file that went away meanwhile. */
async function protectionOf({ store }: RepositoryContext, name: string): Promise<BlobProtection | undefined> {
  try {
    return await store.protectionOf(name);
  } catch (error) {
    if (isChainkeepError(error, 'BLOB_NOT_FOUND')) return undefined;
    throw error;
  }
}
