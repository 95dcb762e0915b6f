// Rows of the catalog as the views of the App: plain values without secrets.

import type { BackupDetails, ChainView, JobEventView, JobStepView, JobView, RepositoryView, StorageView, VmView } from './app-interface.ts';
import type { ChainListing } from './catalog/backup-chains.ts';
import type { BackupJob } from './catalog/backup-jobs.ts';
import type { BackupListing } from './catalog/backup-listing.ts';
import type { HoldRow } from './catalog/holds.ts';
import type { JobStep } from './catalog/job-steps.ts';
import type { TrackedJob } from './catalog/job-tracking.ts';
import type { LogEvent } from './catalog/log-events.ts';
import type { listVmContexts } from './catalog/vm-contexts.ts';
import { type FillLevel, fillLevel, usedPercentage } from './control/fill-level.ts';
import type { Forecast } from './control/forecast.ts';
import type { RepositoryState } from './control/repository-manager.ts';
import { isSecretReference } from './control/secret-reference.ts';
import { REDACTED } from './plumbing/secret.ts';
import type { Sidecar } from './repository/sidecar-fields.ts';
import { placeOf } from './store/place-of.ts';

export function repositoryView({ row, readOnly, problem }: RepositoryState, backupCount: number): RepositoryView {
  const { total_size_bytes: total, used_size_bytes: used, available_size_bytes: available } = row;
  return {
    repository_id: row.id,
    name: row.name,
    type: row.repository_type,
    enabled: row.enabled,
    place: placeOf(row.repository_type, row.config),
    config: Object.fromEntries(Object.entries(row.config).map(([name, value]) => [name, isSecretReference(value) ? REDACTED : value])),
    is_immutable: row.is_immutable,
    immutable_config: row.immutable_config,
    read_only: readOnly,
    health: row.health,
    problem: problem ?? null,
    storage: {
      total_bytes: total,
      used_bytes: used,
      available_bytes: available,
      used_percentage: usedPercentage({ totalBytes: total, usedBytes: used, availableBytes: available }),
      last_check_at: row.last_check_at,
    },
    backup_count: backupCount,
    created_at: row.created_at,
  };
}

/** What `storage` shows: the repository, and what its samples say of its growth. */
export function storageView(repository: RepositoryView, { growthPerDay, daysUntilFull }: Forecast, reservedBytes: number): StorageView {
  const { total_bytes: totalBytes, used_bytes: usedBytes, available_bytes: availableBytes, last_check_at: checked } = repository.storage;
  const level = checked === null ? 'unknown' : fillLevel({ totalBytes, usedBytes, availableBytes });
  return {
    ...repository,
    health_status: healthStatus(repository, level),
    reserved_bytes: reservedBytes,
    growth_bytes_per_day: growthPerDay,
    days_until_full: daysUntilFull,
  };
}

function healthStatus({ enabled, health }: RepositoryView, level: FillLevel): StorageView['health_status'] {
  if (!enabled) return 'disabled';
  if (health === 'offline') return 'offline';
  if (level === 'full') return 'critical';
  if (level === 'warning' || health === 'warning') return 'warning';
  return level === 'unknown' ? 'unknown' : 'healthy';
}

export function chainView(chain: ChainListing): ChainView {
  return {
    chain_id: chain.id,
    vm_context_id: chain.vm_context_id,
    disk_id: chain.disk_id,
    repository: chain.repository,
    full_backup_id: chain.full_backup_id,
    latest_backup_id: chain.latest_backup_id,
    total_backups: chain.total_backups,
    total_size_bytes: chain.total_size_bytes,
    backups: chain.backups,
  };
}

export function vmView(vm: Awaited<ReturnType<typeof listVmContexts>>[number]): VmView {
  return {
    vm_context_id: vm.context_id,
    vm_name: vm.vm_name,
    external_id: vm.external_id,
    platform: vm.platform,
    backup_count: vm.backup_count,
    size_bytes: vm.size_bytes,
    last_backup_at: vm.last_backup_at,
    created_at: vm.created_at,
  };
}

/** `sidecar`: of a completed backup; what only it knows is null for the others. */
export function backupDetails(
  listed: BackupListing,
  row: BackupJob,
  sidecar: Sidecar | undefined,
  { dependents, holds }: { readonly dependents: readonly string[]; readonly holds: readonly HoldRow[] },
): BackupDetails {
  return {
    ...listed,
    restore_point_id: row.restore_point_id,
    chain_id: row.chain_id,
    change_id: row.change_id,
    content_root: row.content_root,
    compression: sidecar?.qcow2.compression ?? (row.compression_enabled ? 'zstd' : 'none'),
    cluster_size: sidecar?.qcow2.cluster_size ?? null,
    bytes_read: sidecar?.bytes_read ?? null,
    source: sidecar?.source ?? null,
    error_message: row.error_message,
    verified_at: row.verified_at,
    verification_status: row.verification_status,
    repository_path: row.status === 'completed' ? row.repository_path : null,
    dependents,
    protected_until: row.protected_until,
    holds: holds.map((hold) => ({
      hold_id: hold.id,
      backup_id: hold.backup_id,
      reason: hold.reason,
      by: hold.created_by,
      since: hold.created_at,
    })),
  };
}

export function jobView(job: TrackedJob): JobView {
  return {
    job_id: job.id,
    parent_job_id: job.parent_job_id,
    job_type: job.job_type,
    operation: job.operation,
    status: job.status,
    percent_complete: job.percent_complete,
    error_message: job.error_message,
    created_at: job.created_at,
    started_at: job.started_at,
    completed_at: job.completed_at,
    metadata: job.metadata ?? {},
  };
}

export function jobStepView({ seq, name, status, started_at, completed_at, error_message }: JobStep): JobStepView {
  return { seq, name, status, started_at, completed_at, error_message };
}

export function jobEventView({ id, ts, level, message, attrs }: LogEvent): JobEventView {
  return { event_id: id, ts, level, message, attrs };
}
