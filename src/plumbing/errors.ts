// The one error type of Chainkeep and the list of its stable codes.
// It must not know HTTP status codes or exit codes: `api` and `cli` map them.

/** Every code an error can carry, with what it means. The reference page of error codes is generated from this list. */
export const ERROR_CODES = {
  // backups and chains
  BACKUP_NOT_FOUND: 'no backup has this id',
  BACKUP_AMBIGUOUS: 'the given beginning of an id fits several backups',
  RESTORE_POINT_INCOMPLETE: 'a disk of the restore point is missing',
  BACKUP_IN_PROGRESS: 'another run holds the lease of this disk',
  BACKUP_IN_USE: 'another job reads this backup',
  BACKUP_HAS_DEPENDENTS: 'other backups need this one',
  CHAIN_CORRUPT: 'a chain does not fit together: a parent is missing, replaced or of another disk',
  PARENT_REQUIRED: 'the backup type needs a completed parent and there is none',
  PARENT_NOT_FOUND: 'the parent of this backup is gone',
  DIGEST_MISMATCH: 'stored bytes do not have the digest that was recorded for them',
  SIDECAR_INVALID: 'a sidecar is damaged or of a format this version does not know',
  PROTECTION_INVALID: 'a lock or a hold of a backup is damaged or gone',
  DIGESTS_INVALID: 'a digests file is damaged or of a format this version does not know',
  VM_NOT_FOUND: 'no protected VM has this name or id',
  VM_AMBIGUOUS: 'the name fits several VMs',
  JOB_NOT_FOUND: 'no job has this id',
  JOB_LOST: 'another process has settled this job, because nothing was heard of it',
  JOB_ENDED: 'the job has ended already',
  JOB_NOT_RECEIVING: 'the job does not wait for a pushed disk',
  PUSH_INCOMPLETE: 'a push was completed of which nothing, or not every disk, had been written',
  LEASE_LOST: 'the lease of this disk ended while it was being written',
  // repositories and stores
  REPOSITORY_NOT_FOUND: 'no repository has this name or id',
  REPOSITORY_EXISTS: 'the name or the place is taken by another repository',
  REPOSITORY_OFFLINE: 'the repository cannot be reached, or its marker vanished',
  MOUNT_FAILED: 'the share of the repository could not be mounted',
  REPOSITORY_IN_USE: 'backups or policies still use the repository',
  REPOSITORY_FOREIGN: 'the repository belongs to another installation',
  REPOSITORY_NOT_EMPTY: 'the folder holds files that are not a repository',
  REPOSITORY_INVALID: 'the marker of the repository is damaged or of an unknown format',
  REPOSITORY_READ_ONLY: 'the repository cannot be written to',
  REPOSITORY_DISABLED: 'the repository is disabled: it takes no new backups',
  INSUFFICIENT_STORAGE: 'there is not enough room',
  BLOB_NOT_FOUND: 'no blob has this name',
  BLOB_EXISTS: 'a blob of this name exists and may not be replaced',
  BLOB_CHANGED: 'a blob was replaced or changed while it was open',
  BLOB_IN_USE: 'the file server refuses to replace or delete a blob that somebody has open',
  BLOB_NAME_INVALID: 'the name cannot be that of a blob: it could leave the store, or not every store could hold it',
  BLOB_TOO_LARGE: 'the blob would exceed what the store can hold',
  STORE_FAILED: 'the store answered a read or write with an error',
  IMMUTABLE_RETENTION_ACTIVE: 'the backup is locked until a date',
  HOLD_ACTIVE: 'the backup is under a hold',
  HOLD_NOT_FOUND: 'no hold has this id, or it is lifted already',
  CLOCK_JUMPED: 'the clock jumped, and nothing expires until it is set right or confirmed',
  // sources, targets and images
  SOURCE_NOT_FOUND: 'the source does not exist',
  SOURCE_UNREADABLE: 'the source cannot be opened or read',
  SOURCE_INVALID: 'the source is not a disk, or not of the format that was given',
  CHANGES_INVALID: 'a list of what changed is no such list, or not of this disk',
  CHANGE_ID_MISMATCH: 'what is said to have changed is not counted from the state that the parent holds',
  SOURCE_CHANGED: 'the source was resized or written to while it was read',
  TARGET_EXISTS: 'the target exists and --force was not given',
  TARGET_INVALID: 'the target cannot be written to',
  TARGET_TOO_SMALL: 'the target device is smaller than the disk',
  TARGET_FAILED: 'writing to the target failed',
  QCOW2_INVALID: 'the image breaks the QCOW2 format',
  QCOW2_UNSUPPORTED: 'the image uses a QCOW2 feature that is refused on purpose or not known',
  DISK_SIZE_INVALID: 'the size of the disk is not possible with these settings',
  CONNECTION_FAILED: 'the other side cannot be reached, or the connection broke',
  HYPERVISOR_FAILED: 'QEMU, libvirt or a guest agent refused a command, or answered what it should not',
  NBD_PROTOCOL: 'the other side of an NBD connection breaks the protocol',
  EXPORT_NOT_FOUND: 'the NBD server has no export of this name',
  EXPORT_REFUSED: 'the NBD server does not give the export in this way: without TLS, for writing, or at all',
  // everything else
  CONFIG_INVALID: 'a setting has a value that is not allowed',
  SECRET_KEY_MISSING: 'stored secrets are encrypted with a key that is not here: it is lost, or another one is in its place',
  SECRET_INVALID: 'a stored secret is damaged, or was moved to another row',
  CATALOG_FAILED: 'the database answered with an error',
  CATALOG_TOO_NEW: 'the database was written by a newer version',
  CATALOG_IN_USE: 'other processes use the database',
  CATALOG_INVALID: 'the file is not a sound copy of a database of Chainkeep',
  NOT_SUPPORTED: 'this kind of database or store cannot do it',
  CANCELLED: 'the operation was cancelled',
  NOT_BUILT_YET: 'this command is planned and not built yet',
  USAGE: 'the command line is wrong',
  INTERNAL: 'a bug: something happened that should not be possible',
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

/** What the place that threw knew: ids, offsets, sizes. Never a secret. */
export type ErrorContext = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>;

export interface ErrorOptions {
  readonly advice?: string;
  readonly context?: ErrorContext;
  readonly retryable?: boolean;
  readonly cause?: unknown;
}

/** An error a user can act on: a stable code, one line that says what happened, one line of advice. */
export class ChainkeepError extends Error {
  override readonly name = 'ChainkeepError';
  readonly code: ErrorCode;
  readonly advice: string | undefined;
  readonly context: ErrorContext;
  readonly retryable: boolean;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.advice = options.advice;
    this.context = options.context ?? {};
    this.retryable = options.retryable ?? false;
  }
}

export function isChainkeepError(error: unknown, code?: ErrorCode): error is ChainkeepError {
  return error instanceof ChainkeepError && (code === undefined || error.code === code);
}

/** The `code` of a system error (`ENOENT`, `EACCES`, …), else undefined. */
export function systemCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/** A rejected check that only a bug can cause. */
export function assert(condition: boolean, what: string): asserts condition {
  if (!condition) throw new ChainkeepError('INTERNAL', `internal error: ${what}`, { advice: 'please report this with the job log' });
}

/** Throws CANCELLED when the signal has fired; call it between the steps of every long operation. */
export function throwIfCancelled(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw cancellation(signal);
}

/** What ends an operation whose signal has fired: the reason that was given, or CANCELLED. */
export function cancellation(signal: AbortSignal | undefined): ChainkeepError {
  const reason: unknown = signal?.reason;
  return reason instanceof ChainkeepError ? reason : new ChainkeepError('CANCELLED', 'cancelled', { cause: reason });
}
