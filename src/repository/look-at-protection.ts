// Compares what should protect the backups of one disk with what does, and says what is to be done. The rules of dates are in lock-rules.ts.
// It must not write anything: run-protection.ts does, and only what stands here.

import { isChainkeepError } from '../plumbing/errors.ts';
import { gather } from '../plumbing/gather.ts';
import { checkBlobName } from '../store/blob-name.ts';
import type { BlobInfo, BlobProtection } from '../store/blob-store.ts';
import { readListedFolder } from './disk-folder.ts';
import type { Immutability } from './immutability.ts';
import { type DiskPlace, diskFolder, lockFile, parseCompactTime, parseFileName, parseProtectionName } from './layout.ts';
import { DAY_MS, type LockTime, markDue, planHolds, planLocks } from './lock-rules.ts';
import { type Hold, isActive, type Protection, readProtections } from './protection.ts';
import type { RepositoryContext } from './repository-context.ts';
import type { Sidecar } from './sidecar-fields.ts';

interface ProtectStep {
  readonly action: 'protect';
  readonly protection: BlobProtection;
  /** It was protected before. */
  readonly again: boolean;
  /** It says that all of its backup is protected: only where all before it went well. */
  readonly isLast: boolean;
}

export type ProtectionStep = { readonly backupId: string; readonly name: string } & (
  | { readonly action: 'lock' } // make the file of a date
  | ProtectStep
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
  readonly sweptAt?: number | undefined;
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
  const held = planHolds(backups, heldBy(protections, isActive));
  const wasHeld = planHolds(
    backups,
    heldBy(protections, (hold) => mayHoldInStore(hold, options.sweptAt)),
  );
  const before = options.sweptAt === undefined ? new Set<string>() : protectedAt(options.sweptAt, state, context.immutability, time);
  const known = new Map(backups.map((backup) => [backup.backup_id, backup]));
  const common = { context, place, time, isWhole: !options.only, sweptAt: options.sweptAt };
  const steps: ProtectionStep[] = [];
  for (const id of [...new Set([...dates.keys(), ...held, ...wasHeld])].sort()) {
    if (options.only && !options.only.has(id)) continue;
    const holds = { isHeld: held.has(id), wasHeld: wasHeld.has(id), wasProtected: before.has(id) };
    const look = { ...common, ...holds, id, backup: known.get(id), until: dates.get(id), present: present.get(id) };
    steps.push(...(await lookAtBackup(look, state.files.get(id) ?? [])));
  }
  return { place, steps, dates };
}

function heldBy(protections: DiskState['protections'], counts: (hold: Hold) => boolean): Set<string> {
  return new Set([...protections].filter(([, { holds }]) => holds.some(counts)).map(([id]) => id));
}

/**
 * May a mark or a hold of the store still be there for it? When all was looked at after it was lifted, what holds there now was set by somebody else.
 * The two times may come from different clocks.
 */
function mayHoldInStore({ liftedAt }: Hold, sweptAt: number | undefined): boolean {
  return liftedAt === null || sweptAt === undefined || Date.parse(liftedAt) > sweptAt - DAY_MS;
}

/** What had to be protected at that time, and ever since: by the backups, dates and holds that were there then. */
function protectedAt(
  then: number,
  { backups, protections, files }: DiskState,
  settings: Immutability | undefined,
  { expireAt }: LockTime,
): ReadonlySet<string> {
  const there = backups.filter(({ completed_at }) => Date.parse(completed_at) <= then);
  const present = new Map<string, number>();
  for (const [id, infos] of files) {
    present.set(id, Math.max(0, ...infos.filter(({ modifiedAt }) => modifiedAt <= then).map(({ name }) => lockDate(name))));
  }
  const locked = [...planLocks(there, present, settings, then)].filter(([, until]) => until > (expireAt ?? 0));
  const held = heldBy(protections, (hold) => isActive(hold) && Date.parse(hold.createdAt) <= then);
  return new Set([...planHolds(there, held), ...locked.map(([id]) => id)]);
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
  /** By a hold of ours, now or a short time ago: of itself, or of what needs it. */
  readonly wasHeld: boolean;
  /** It had to be protected when everything was. */
  readonly wasProtected: boolean;
  /** Of everything of the disk, not of what a commit needs. */
  readonly isWhole: boolean;
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
  { context, id, backup, isHeld, wasProtected, until, sweptAt, time }: BackupLook,
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
    const again = wasProtected && sweptAt !== undefined && due <= sweptAt && modifiedAt <= sweptAt;
    steps.push({ backupId: id, action: 'protect', name, protection, again, isLast: false });
  }
  if (newLock !== undefined && isNeeded)
    steps.push({ backupId: id, action: 'protect', name: newLock, protection, again: false, isLast: false });
  return steps;
}

/**
 * In a store with dates: they cannot be taken off. A commit believes the file of the date, which was protected after all others; a look at the whole
 * disk asks every file, for one may have come back from a copy, or beside a date that was there. Only a hold of ours is lifted: others have reasons
 * of their own to hold a file there.
 */
async function lookAtDates(
  { context, id, until, isHeld, wasHeld, isWhole }: BackupLook,
  names: readonly string[],
  isOver: boolean,
): Promise<ProtectionStep[]> {
  const steps: ProtectionStep[] = [];
  const last = names.filter((name) => parseProtectionName(name)?.kind === 'lock').at(-1);
  const asked = isWhole || wasHeld ? names : names.filter((name) => name === last);
  const found = new Map(await gather(asked, async (name) => [name, await protectionOf(context, name)] as const));
  const step = (name: string, protection: BlobProtection): void => {
    steps.push({
      backupId: id,
      action: 'protect',
      name,
      protection,
      again: false,
      isLast: name === last && protection.until !== undefined,
    });
  };
  if (!isOver && until !== undefined && last !== undefined) {
    const isLate = (name: string): boolean => (found.get(name)?.until ?? 0) < until;
    const late = asked.some(isLate) ? names.filter(isLate) : [];
    for (const name of [...late.filter((other) => other !== last), ...late.filter((other) => other === last)]) step(name, { until });
  }
  if (wasHeld) for (const name of names) if ((found.get(name)?.hold ?? false) !== isHeld) step(name, { hold: isHeld });
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
