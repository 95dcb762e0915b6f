// The rows that a rescan writes: of a backup that was found, of one that only holds a place, of the VM that has them.
// It must not read or write the catalog.

import type { BackupJob } from '../../catalog/backup-jobs.ts';
import { isMarked, placeholderMessage } from '../../catalog/backup-marks.ts';
import type { CompletedBackup } from '../../catalog/complete-backup.ts';
import { isoTime, timeOfId } from '../../plumbing/clock.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { type DiskPlace, diskFolder, imageFile } from '../../repository/layout.ts';
import type { Sidecar } from '../../repository/sidecar-fields.ts';
import { backupRow } from './backup-row.ts';

export interface FoundBackup {
  readonly sidecar: Sidecar;
  /** Why it cannot be relied on, known without reading its data. */
  readonly damage: ChainkeepError | undefined;
  readonly protectedUntil: string | null;
  readonly policyIsKnown: boolean;
}

/** The row of a backup as the repository has it. What a verify found out stays, until the files it looked at were lost and came back. */
export function foundRow(found: FoundBackup, repositoryId: string, known: BackupJob | undefined): CompletedBackup {
  const row = backupRow(found.sidecar, { id: repositoryId });
  return {
    ...row,
    status: 'completed',
    policy_id: found.policyIsKnown ? row.policy_id : (known?.policy_id ?? null),
    protected_until: found.protectedUntil,
    error_message: found.damage?.message ?? null,
    ...verification(found.damage !== undefined, known),
  };
}

function verification(damaged: boolean, known: BackupJob | undefined): Pick<BackupJob, 'verified_at' | 'verification_status'> {
  if (damaged) return { verified_at: known?.verified_at ?? null, verification_status: 'failed' };
  if (known?.status !== 'completed' || isMarked(known)) return { verified_at: null, verification_status: 'never' };
  return { verified_at: known.verified_at, verification_status: known.verification_status };
}

/** The fields in which a row differs from what it should be; marks of damage are not a change of the backup. */
export function changesOf(wanted: CompletedBackup, known: BackupJob): { readonly set: Partial<BackupJob>; readonly changed: boolean } {
  const was = new Map<string, unknown>(Object.entries(known));
  const different = Object.entries(wanted).filter(([name, value]) => was.get(name) !== value);
  const marks = new Set(['error_message', 'verified_at', 'verification_status']);
  return { set: Object.fromEntries(different), changed: different.some(([name]) => !marks.has(name)) };
}

export interface Place {
  readonly backupId: string;
  readonly place: DiskPlace;
  readonly vmName: string;
  readonly why: string;
  /** The backup that needs it; what is known of it follows from there. */
  readonly child?: Sidecar;
}

/** The row that stands for a backup whose own sidecar says nothing. */
export function placeholderRow({ backupId, place, vmName, why, child }: Place, repositoryId: string): CompletedBackup {
  const isFull = child === undefined || child.chain_id === backupId || child.backup_type === 'differential';
  return {
    id: backupId,
    vm_context_id: place.vmContextId,
    vm_name: vmName,
    disk_id: place.diskId,
    repository_id: repositoryId,
    backup_type: isFull ? 'full' : 'incremental',
    status: 'failed',
    repository_path: diskFolder(place) + imageFile(backupId),
    error_message: placeholderMessage(why),
    chain_id: child?.chain_id ?? null,
    size_bytes: 0,
    total_bytes: 0,
    created_at: timeOfId(backupId) > 0 || !child ? isoTime(timeOfId(backupId)) : child.created_at,
    completed_at: null,
  };
}

/** What the catalog cannot hold: sealed by somebody who does not know its limits. */
export function findMisfit(sidecar: Sidecar): ChainkeepError | undefined {
  const { backup_id, vm_name, change_id, external_id, created_at, started_at, completed_at } = sidecar;
  const texts = [
    ['vm_name', vm_name, 255],
    ['change_id', change_id ?? '', 191],
    ['external_id', external_id ?? '', 255],
  ] as const;
  const text = texts.find(([, value, most]) => Array.from(value).length > most || value.includes('\0') || !value.isWellFormed());
  const time = [created_at, started_at, completed_at].find((value) => Number.isNaN(Date.parse(value)));
  if (text === undefined && time === undefined && sidecar.disk_id < 2 ** 31) return undefined;
  const what = text ? `${text[0]} is no text that the catalog can hold` : 'a time or a number in it is impossible';
  return new ChainkeepError('SIDECAR_INVALID', `the sidecar of backup ${backup_id} cannot be entered: ${what}`, {
    context: { backup_id },
  });
}
