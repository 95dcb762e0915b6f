// Some backups of a rescan: looked at once more in the repository, then settled in one transaction.
// It must not trust what was read before the transaction: a row that changed meanwhile belongs to somebody who is at work.

import { refreshChain } from '../../catalog/backup-chains.ts';
import { type BackupJob, findBackupJobs } from '../../catalog/backup-jobs.ts';
import { isPlaceholder, MISSING } from '../../catalog/backup-marks.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { insertFoundBackup, updateFoundBackup } from '../../catalog/complete-backup.ts';
import { isoTime } from '../../plumbing/clock.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { mapAhead } from '../../plumbing/map-ahead.ts';
import type { DiskPlace } from '../../repository/layout.ts';
import type { Protection } from '../../repository/protection.ts';
import type { ScannedDisk } from '../../repository/scan-disk.ts';
import type { Sidecar } from '../../repository/sidecar-fields.ts';
import { type Outcome, type RowState, reconcile } from './reconcile.ts';
import { findReplaced } from './replaced-backup.ts';
import type { RescanRun } from './rescan.ts';
import { settleCopy } from './rescan-copy.ts';
import { applyHolds, type HeldRows, readHolds } from './rescan-holds.ts';
import { changesOf, findMisfit, foundRow, placeholderRow } from './rescan-rows.ts';
import type { Settled } from './rescan-tally.ts';
import { enterVms, type VmNames } from './rescan-vms.ts';
import { type AtWork, beingDeleted, readAtWork, writerOf } from './rescan-work.ts';

/** One backup as the repository has it; nothing but its id where only the catalog knows it. */
export interface Item {
  readonly place: DiskPlace;
  readonly backupId: string;
  /** Undefined where it is absent or cannot be read. */
  readonly sidecar: Sidecar | undefined;
  /** Of the sidecar, of the other files, or of how it stands on its parent. */
  readonly damage: ChainkeepError | undefined;
  readonly protection: Protection | undefined;
}

/** All that is in the folder of a disk and all that the catalog has of it, oldest first. `scanned`: undefined where no file is left. */
export function itemsOf(place: DiskPlace, scanned: ScannedDisk | undefined, inCatalog: readonly string[]): Item[] {
  const { folder, faults, protections } = scanned ?? {};
  const sidecars = new Map(folder?.sidecars.map((sidecar) => [sidecar.backup_id, sidecar]));
  const ids = new Set([...inCatalog, ...sidecars.keys(), ...(folder?.damaged.keys() ?? []), ...(protections?.keys() ?? [])]);
  return [...ids].sort().map((backupId) => {
    const read = sidecars.get(backupId);
    const misfit = read && findMisfit(read);
    const damage = misfit ?? folder?.damaged.get(backupId) ?? faults?.get(backupId);
    // Deleted since the folder was listed: as if it had never been seen.
    const gone = damage?.code === 'BACKUP_NOT_FOUND';
    const protection = protections?.get(backupId);
    return { place, backupId, sidecar: misfit ? undefined : read, damage: gone ? undefined : damage, protection };
  });
}

/** Files that are asked for at the same time. */
const LOOKS_AHEAD = 16;

export class RescanBatch {
  readonly #run: RescanRun;
  readonly #items: readonly Item[];
  /** As the catalog has them in the transaction, by id; what the transaction writes is entered here too. */
  readonly #rows = new Map<string, BackupJob | undefined>();
  /** Placeholders that this transaction made. */
  readonly #made = new Set<string>();
  readonly #chains = new Set<string>();
  #work: AtWork = { jobs: [], leases: [] };
  #names: VmNames = new Map();
  #policies: ReadonlySet<string> = new Set();
  #holds: HeldRows = new Map();

  constructor(run: RescanRun, items: readonly Item[]) {
    this.#run = run;
    this.#items = items;
  }

  async settle(): Promise<void> {
    const { environment, tally } = this.#run;
    const before = new Map((await findBackupJobs(environment.catalog, this.#ids())).map((row) => [row.id, row]));
    const moved = await this.#lookAgain(before);
    const settled = await environment.catalog.transaction(async (unit) => {
      await this.#read(unit);
      const results: Settled[] = [];
      for (const item of this.#items) {
        const row = this.#rows.get(item.backupId);
        const changed = row?.status !== before.get(item.backupId)?.status && !this.#made.has(item.backupId);
        const result = moved.has(item.backupId) || changed ? { report: 'in progress' as const, damage: [] } : await this.#apply(unit, item);
        results.push({ backupId: item.backupId, found: item.sidecar !== undefined, ...result });
      }
      for (const chain of this.#chains) await refreshChain(unit, chain);
      return results;
    });
    for (const result of settled) tally.add(result);
  }

  /**
   * What is not plainly good is looked at once more, after the catalog: a delete takes the sidecar before the row, a backup makes it before the row
   * says so. Ids of those that came or went since their folder was read.
   */
  async #lookAgain(before: ReadonlyMap<string, BackupJob>): Promise<ReadonlySet<string>> {
    const doubtful = this.#items.filter(({ sidecar, damage, backupId }) => {
      const known = before.get(backupId);
      const completed = known !== undefined && (known.repository_id !== this.#run.row.id || known.status === 'completed');
      return sidecar || damage ? damage !== undefined || !completed : completed;
    });
    const moved = new Set<string>();
    const look = async (item: Item): Promise<void> => {
      const isThere = await this.#run.repository.hasBackup(item.place, item.backupId);
      const wasThere = item.sidecar !== undefined || item.damage !== undefined;
      if (isThere !== wasThere) moved.add(item.backupId);
    };
    for await (const _ of mapAhead(doubtful, LOOKS_AHEAD, look));
    return moved;
  }

  async #read(unit: Catalog): Promise<void> {
    // The transaction may have been undone and begun again: what it had entered is not there any more.
    this.#rows.clear();
    this.#made.clear();
    this.#chains.clear();
    const parents = this.#items.flatMap(({ sidecar }) => sidecar?.parent_backup_id ?? []);
    for (const row of await findBackupJobs(unit, [...new Set([...this.#ids(), ...parents])])) this.#rows.set(row.id, row);
    this.#work = await readAtWork(unit);
    const entered = await enterVms(unit, this.#items);
    this.#names = entered.names;
    this.#policies = entered.policies;
    this.#holds = await readHolds(unit, this.#ids());
  }

  async #apply(unit: Catalog, item: Item): Promise<Pick<Settled, 'report' | 'damage'>> {
    const { environment, row: repository } = this.#run;
    const row = this.#rows.get(item.backupId);
    const own = damageOf(item);
    if (row && row.repository_id !== repository.id) {
      const replaced = row.status === 'completed' && item.sidecar ? findReplaced(row, item.sidecar.content_root) : undefined;
      const { report, damage } = await settleCopy(unit, { ...item, damage: item.damage ?? replaced }, repository);
      return { report, damage: [...damage, ...(item.protection?.damage ?? [])] };
    }
    const outcome = reconcile({
      sidecar: item.sidecar ? 'valid' : item.damage ? 'damaged' : 'absent',
      row: rowState(row),
      writer: row ? writerOf(row, this.#work, environment) : 'dead',
      beingDeleted: beingDeleted(item.backupId, this.#work),
    });
    if (outcome.report === 'in progress') return { report: 'in progress', damage: [] };
    const written = await this.#act(unit, item, row, outcome);
    const held = await applyHolds(unit, item, this.#rows.get(item.backupId), this.#holds.get(item.backupId) ?? []);
    const report = written.report === 'nothing' && held.changed ? 'changed' : written.report;
    return { report, damage: [...own, ...written.damage, ...held.damage] };
  }

  async #act(
    unit: Catalog,
    item: Item,
    row: BackupJob | undefined,
    { action, report }: Outcome,
  ): Promise<Pick<Settled, 'report' | 'damage'>> {
    const told = report === 'if it differs' || report === 'in progress' ? 'nothing' : report;
    const { backupId, place, damage } = item;
    const error = damage?.message ?? '';
    if (action === 'enter' && item.sidecar) return this.#enter(unit, item, item.sidecar, row, told);
    if (action === 'end')
      await this.#update(unit, row, { ...ended(this.#run), error_message: 'the process died before the backup was committed' });
    if (action === 'mark damaged') await this.#mark(unit, row, error);
    if (action === 'mark missing') await this.#mark(unit, row, MISSING);
    const { vmContextId } = place;
    const vmName = this.#names.get(vmContextId) ?? vmContextId;
    if (action === 'hold the place') await this.#placehold(unit, { backupId, place, vmName, why: error }, row);
    // What holds a backup needs a row to hang on, also where nothing else of the backup is left.
    const orphaned = action === 'leave' && !damage && item.protection !== undefined && (!row || isPlaceholder(row));
    if (!orphaned) return { report: told, damage: [] };
    const gone = heldAndGone(backupId);
    if (!row) await this.#placehold(unit, { backupId, place, vmName, why: gone.message }, row);
    return { report: told, damage: [gone] };
  }

  async #enter(
    unit: Catalog,
    item: Item,
    sidecar: Sidecar,
    row: BackupJob | undefined,
    told: Settled['report'],
  ): Promise<Pick<Settled, 'report' | 'damage'>> {
    const replaced = row?.status === 'completed' ? findReplaced(row, sidecar.content_root) : undefined;
    if (replaced) {
      // The row alone knows what was taken: it stays as it is.
      await this.#mark(unit, row, replaced.message);
      return { report: 'nothing', damage: [replaced] };
    }
    const { parent_backup_id: parent } = sidecar;
    if (parent !== null && !this.#rows.has(parent)) {
      const why = `backup ${sidecar.backup_id} needs it, and it is not in the repository`;
      await this.#placehold(unit, { backupId: parent, place: item.place, vmName: sidecar.vm_name, why, child: sidecar }, undefined);
    }
    const protectedUntil = later(item.protection?.lockedUntil ?? null, row?.protected_until ?? null);
    const policyIsKnown = sidecar.policy_id !== null && this.#policies.has(sidecar.policy_id);
    const wanted = foundRow({ sidecar, damage: item.damage, protectedUntil, policyIsKnown }, this.#run.row.id, row);
    if (!row) {
      await insertFoundBackup(unit, wanted);
      this.#wrote(sidecar.backup_id, { ...EMPTY_ROW, ...wanted });
      return { report: told, damage: [] };
    }
    const { set, changed } = changesOf(wanted, row);
    await this.#update(unit, row, set);
    return { report: told === 'nothing' && changed ? 'changed' : told, damage: [] };
  }

  async #placehold(unit: Catalog, place: Parameters<typeof placeholderRow>[0], row: BackupJob | undefined): Promise<void> {
    const wanted = placeholderRow(place, this.#run.row.id);
    if (row) return this.#update(unit, row, { status: 'failed', error_message: wanted.error_message ?? null });
    await insertFoundBackup(unit, wanted);
    this.#made.add(place.backupId);
    this.#wrote(place.backupId, { ...EMPTY_ROW, ...wanted });
  }

  async #mark(unit: Catalog, row: BackupJob | undefined, message: string): Promise<void> {
    if (row?.error_message !== message) await this.#update(unit, row, { error_message: message, verification_status: 'failed' });
  }

  async #update(unit: Catalog, row: BackupJob | undefined, set: Partial<BackupJob>): Promise<void> {
    if (!row || Object.keys(set).length === 0) return;
    await updateFoundBackup(unit, row.id, set);
    if (row.chain_id !== null) this.#chains.add(row.chain_id);
    this.#wrote(row.id, { ...row, ...set });
  }

  #wrote(id: string, row: BackupJob): void {
    this.#rows.set(id, row);
    if (row.chain_id !== null) this.#chains.add(row.chain_id);
  }

  #ids(): readonly string[] {
    return this.#items.map(({ backupId }) => backupId);
  }
}

/** What the database enters where an inserted row says nothing. */
const EMPTY_ROW = {
  policy_id: null,
  status: 'pending',
  parent_backup_id: null,
  change_id: null,
  bytes_transferred: 0,
  compression_enabled: true,
  error_message: null,
  restore_point_id: null,
  digest_root: null,
  content_root: null,
  protected_until: null,
  verified_at: null,
  verification_status: 'never',
  started_at: null,
} as const;

function rowState(row: BackupJob | undefined): RowState {
  if (!row) return 'absent';
  if (row.status === 'completed') return 'completed';
  if (row.status === 'pending' || row.status === 'running') return 'unended';
  return isPlaceholder(row) ? 'placeholder' : 'failed';
}

function damageOf({ damage, protection }: Item): readonly ChainkeepError[] {
  return [...(damage ? [damage] : []), ...(protection?.damage ?? [])];
}

function later(a: string | null, b: string | null): string | null {
  if (a === null || b === null) return a ?? b;
  return a > b ? a : b;
}

function ended({ environment }: RescanRun): Partial<BackupJob> {
  return { status: 'failed', completed_at: isoTime(environment.clock.now()) };
}

function heldAndGone(backupId: string): ChainkeepError {
  return new ChainkeepError('BACKUP_NOT_FOUND', `backup ${backupId} is locked or held, and it is not in the repository`, {
    advice: 'bring its files back from a copy',
    context: { backup_id: backupId },
  });
}
