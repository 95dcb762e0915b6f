// What the CLI (and later the server) sees of Chainkeep: one interface and the values it takes and gives. app.ts makes it.
// It must not know how any of it is done.

import type { BackupInput, BackupOutcome } from './app-backup-interface.ts';
import type { DatabaseCare } from './app-database-interface.ts';
import type { JobLog, JobWatch } from './app-job-interface.ts';
import type { ClockCare, Holds, HoldView, ProtectOutcome } from './app-lock-interface.ts';
import type { ExportInput, ExportOutcome, ExportWatch, Pushes } from './app-serving-interface.ts';
import type { Secret } from './plumbing/secret.ts';
import type { BackupType } from './repository/sidecar-fields.ts';

export type { BackupInput, BackupOutcome } from './app-backup-interface.ts';
export type {
  DatabaseCare,
  DatabaseCheck,
  DatabaseCopy,
  DatabaseProblem,
  RestoredDatabase,
  RestoredJobs,
} from './app-database-interface.ts';
export type {
  JobDetails,
  JobEventView,
  JobLog,
  JobPage,
  JobProgress,
  JobStepProgress,
  JobStepView,
  JobView,
  JobWatch,
} from './app-job-interface.ts';
export type { ClockCare, ClockView, HoldOutcome, Holds, HoldView, ListedHold, ProtectOutcome } from './app-lock-interface.ts';
export type {
  ExportInput,
  ExportOutcome,
  ExportWatch,
  Pushes,
  PushOutcome,
  ReceiveInput,
  ReceiveWatch,
  ScratchPlace,
  ServedDisk,
  ServedExport,
  ServedPush,
  ServingPlace,
} from './app-serving-interface.ts';

export interface RepositoryView {
  readonly repository_id: string;
  readonly name: string;
  readonly type: string;
  readonly enabled: boolean;
  /** Path or URL, without secrets. */
  readonly place: string;
  /** A secret stands there as `[secret]`. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly is_immutable: boolean;
  readonly immutable_config: Readonly<Record<string, unknown>> | null;
  readonly read_only: boolean;
  readonly health: string;
  /** Why it cannot be used now, where it was looked at. */
  readonly problem: string | null;
  readonly storage: {
    readonly total_bytes: number;
    readonly used_bytes: number;
    readonly available_bytes: number;
    readonly used_percentage: number;
    readonly last_check_at: string | null;
  };
  readonly backup_count: number;
  readonly created_at: string;
}

export interface StorageView extends RepositoryView {
  /** `warning` from 90 %, `critical` from 95 %, where no backup begins any more; `unknown` where the store does not tell. */
  readonly health_status: 'healthy' | 'warning' | 'critical' | 'offline' | 'unknown' | 'disabled';
  /** What running jobs will still write there. */
  readonly reserved_bytes: number;
  /** Negative where it shrinks; null where there are too few samples to say. */
  readonly growth_bytes_per_day: number | null;
  /** Null where it does not grow, or nothing can be said. */
  readonly days_until_full: number | null;
}

export interface SelfTestStep {
  readonly name: string;
  readonly ok: boolean;
  /** It works, and there is something to know or to change. */
  readonly warning: boolean;
  readonly duration_ms: number;
  readonly message: string;
  readonly advice: string | null;
  /** Only of the steps that measure. */
  readonly bytes_per_second?: number;
}

export interface BackupView {
  readonly backup_id: string;
  readonly vm_name: string;
  readonly vm_context_id: string;
  readonly disk_id: number;
  readonly backup_type: BackupType;
  readonly status: string;
  readonly parent_backup_id: string | null;
  readonly repository: string;
  readonly size_bytes: number;
  readonly total_bytes: number;
  readonly created_at: string;
  readonly completed_at: string | null;
  /** Only of a completed backup that is not in the repository any more, or is known not to be whole there. */
  readonly problem?: 'missing' | 'damaged';
}

/** `show BACKUP`: the row, and what the sidecar adds. */
export interface BackupDetails extends BackupView {
  readonly restore_point_id: string | null;
  readonly chain_id: string | null;
  readonly change_id: string | null;
  readonly content_root: string | null;
  readonly compression: string;
  readonly cluster_size: number | null;
  readonly bytes_read: number | null;
  readonly source: string | null;
  readonly error_message: string | null;
  readonly verified_at: string | null;
  readonly verification_status: string;
  /** Path inside the repository. */
  readonly repository_path: string | null;
  readonly dependents: readonly string[];
  /** Not to be deleted before this; null where it is not locked. */
  readonly protected_until: string | null;
  /** Those that are not lifted. */
  readonly holds: readonly Omit<HoldView, 'repository' | 'lifted_by' | 'lifted_at'>[];
}

export interface ChainView {
  readonly chain_id: string;
  readonly vm_context_id: string;
  readonly disk_id: number;
  readonly repository: string;
  readonly full_backup_id: string;
  readonly latest_backup_id: string;
  readonly total_backups: number;
  readonly total_size_bytes: number;
  readonly backups: readonly BackupView[];
}

export interface VmView {
  readonly vm_context_id: string;
  readonly vm_name: string;
  readonly external_id: string | null;
  readonly platform: string;
  readonly backup_count: number;
  readonly size_bytes: number;
  readonly last_backup_at: string | null;
  readonly created_at: string;
}

export interface Damage {
  readonly backup_id: string;
  readonly code: string;
  /** Bytes; null where the damage is not in a guest range (a sidecar, a table). */
  readonly guest_offset: number | null;
  readonly length: number | null;
  readonly message: string;
  /** Every restore point (backup id) that is hit. */
  readonly affects: readonly string[];
}

export interface VerifyInput {
  readonly backup?: string;
  readonly vm?: string;
  readonly repository?: string;
  readonly quick: boolean;
}

export interface VerifyOutcome {
  readonly job_id: string;
  /** Backups looked at. */
  readonly checked: number;
  readonly clusters: number;
  /** Expanded bytes read and compared. */
  readonly bytes: number;
  readonly damaged: readonly Damage[];
}

export interface RestoreInput {
  readonly backup: string;
  readonly vm?: string;
  readonly target: string;
  readonly format: 'raw' | 'qcow2';
  readonly force: boolean;
  readonly dry_run: boolean;
}

export interface RestoreOutcome {
  /** Null for a dry run. */
  readonly job_id: string | null;
  readonly backup_id: string;
  readonly target: string;
  readonly total_bytes: number;
  readonly bytes_written: number;
  readonly bytes_read: number;
  readonly duration_ms: number;
  /** The images it reads, newest first. */
  readonly chain: readonly string[];
}

export interface DeleteOutcome {
  readonly job_id: string | null;
  readonly backup_id: string;
  readonly freed_bytes: number;
}

/** Backups, each counted once in each number that fits. */
export interface RescanOutcome {
  readonly job_id: string;
  readonly repository: string;
  readonly repository_id: string;
  /** Another installation owns it: it was read all the same. */
  readonly read_only: boolean;
  /** In the repository, with a sidecar that can be read. */
  readonly found: number;
  readonly added: number;
  readonly changed: number;
  readonly damaged: number;
  /** Those of `found` that belong to another installation. */
  readonly foreign: number;
  /** In the catalog and not in the repository. */
  readonly missing: number;
  /** Being made or deleted at this moment: left alone. */
  readonly in_progress: number;
  readonly damaged_backups: readonly { readonly backup_id: string; readonly code: string; readonly message: string }[];
  readonly missing_backups: readonly string[];
  /** Files that are none of ours, and the names of the first of them. */
  readonly other_files: number;
  readonly other_names: readonly string[];
  /** What was only in a lost database, and is in no repository. */
  readonly not_rebuilt: readonly string[];
}

/** Later ones win. */
export interface GivenSettings {
  /** From a document that only its reader sees: secrets may stand in it. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** From arguments, which everybody on the machine can read: no secrets. */
  readonly settings?: Readonly<Record<string, unknown>>;
  readonly secrets?: Readonly<Record<string, Secret>>;
}

export interface AddRepositoryInput extends GivenSettings {
  readonly name: string;
  readonly type: string;
  readonly take_over: boolean;
}

export interface UpdateRepositoryInput extends GivenSettings {
  readonly name?: string;
  readonly enabled?: boolean;
  /** Settings to leave out from now on. */
  readonly unset?: readonly string[];
}

export interface TestPlaceInput extends GivenSettings {
  readonly type: string;
  readonly retention?: boolean;
}

export interface KeyRotation {
  /** Secrets that were encrypted with the new key. */
  readonly secrets: number;
  /** Secrets that were removed because their key is lost. */
  readonly forgotten: number;
  readonly key_id: string;
  readonly key_place: string;
  /** The keys come from outside, and the old one has to be taken away there. */
  readonly remove_old_key: boolean;
}

export interface App {
  addRepository(input: AddRepositoryInput): Promise<RepositoryView>;
  updateRepository(nameOrId: string, changes: UpdateRepositoryInput): Promise<RepositoryView>;
  listRepositories(): Promise<readonly RepositoryView[]>;
  showRepository(nameOrId: string): Promise<RepositoryView>;
  /** As the catalog knows it; `refresh` asks the stores. */
  storageOfRepositories(options: { readonly refresh: boolean }): Promise<readonly StorageView[]>;
  /** `retention`: also where a locked test file stays until its date. */
  testRepository(nameOrId: string, options?: { readonly retention: boolean }): Promise<readonly SelfTestStep[]>;
  /** Of a place that is not registered; nothing remains there. */
  testPlace(input: TestPlaceInput): Promise<readonly SelfTestStep[]>;
  /** Makes the rows of its backups what its files say. */
  rescanRepository(nameOrId: string, watch: JobWatch): Promise<RescanOutcome>;
  /** Locks what is due, protects again what somebody freed, frees what is over. */
  protectRepository(nameOrId: string, watch: JobWatch): Promise<ProtectOutcome>;
  /** `forget` keeps the files and drops the rows of its backups. */
  removeRepository(nameOrId: string, options: { readonly forget: boolean }): Promise<void>;

  /** `forget_unreadable` removes secrets whose key is lost. */
  rotateKey(options: { readonly forget_unreadable: boolean }): Promise<KeyRotation>;

  /** With `dry_run` the outcomes say what would be done (job_id is empty, sizes 0). */
  backup(input: BackupInput, watch: JobWatch): Promise<readonly BackupOutcome[]>;
  verify(input: VerifyInput, watch: JobWatch): Promise<VerifyOutcome>;
  restore(input: RestoreInput, watch: JobWatch): Promise<RestoreOutcome>;
  /** Serves a backup, or all disks of a restore point, over NBD until the signal fires. Throws BACKUP_NOT_FOUND and RESTORE_POINT_INCOMPLETE. */
  exportBackup(input: ExportInput, watch: ExportWatch): Promise<ExportOutcome>;
  deleteBackup(backup: string, options: { readonly vm?: string; readonly dry_run: boolean }, watch: JobWatch): Promise<DeleteOutcome>;

  /** The newest first. */
  listBackups(filter: BackupListFilter): Promise<readonly BackupView[]>;
  /** `backup`: an id, an unambiguous beginning of one, or `latest` with `vm`. */
  showBackup(backup: string, vm?: string): Promise<BackupDetails>;
  listChains(filter: { readonly vm: string; readonly disk_id?: number }): Promise<readonly ChainView[]>;
  listVms(): Promise<readonly VmView[]>;
  renameVm(vm: string, name: string): Promise<void>;

  readonly pushes: Pushes;
  readonly jobs: JobLog;
  readonly database: DatabaseCare;
  readonly holds: Holds;
  readonly clock: ClockCare;

  close(): Promise<void>;
}

export interface BackupListFilter {
  readonly vm?: string;
  readonly repository?: string;
  readonly status?: string;
  readonly limit?: number;
  /** Only what was made before this backup: an id or its beginning. */
  readonly after?: string;
}

export interface AppOptions {
  /** Folder of configuration, key and embedded database. */
  readonly home: string;
  /** `sqlite:PATH` or `mariadb://…`; default: `catalog.sqlite` in the home. */
  readonly databaseUrl?: string;
  /** Of the user on MariaDB. */
  readonly databasePassword?: Secret;
  /** Of secrets, from the environment. Without it, or a file of it, the key lies in the home. */
  readonly key?: Secret;
  readonly keyFile?: string;
  /** Where systemd puts credentials. */
  readonly credentialsDirectory?: string;
}
