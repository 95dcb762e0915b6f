// Takes one backup of one disk: plan, run, commit. The image and the digests are complete and durable before the sidecar exists.

import type { ChangeTracking } from '../disk/change-list.ts';
import type { DiskReader } from '../disk/disk-reader.ts';
import type { ByteSink } from '../plumbing/byte-sink.ts';
import { isoTime, newId } from '../plumbing/clock.ts';
import { ChainkeepError, isChainkeepError, throwIfCancelled } from '../plumbing/errors.ts';
import { programVersion } from '../plumbing/version.ts';
import { CLUSTER_CODEC_URL } from '../qcow2/cluster-codec-url.ts';
import { encodeChainkeepExtension } from '../qcow2/header-extensions.ts';
import { ImageBuilder } from '../qcow2/image-builder.ts';
import { DEFAULT_CLUSTER_SIZE, type ImageLayout, planLayout } from '../qcow2/image-layout.ts';
import { planUpload } from '../store/part-plan.ts';
import type { ChangedClusters } from '../transfer/changed-clusters.ts';
import { NOTHING_EXPECTED } from '../transfer/expected-view.ts';
import { planUnits, SourceTable } from '../transfer/plan-units.ts';
import { runTransfer, unitBytesFor } from '../transfer/run-transfer.ts';
import type { WorkerFailure } from '../transfer/unit.ts';
import { BackupRecorder } from './backup-recorder.ts';
import { writeBlob } from './blobs.ts';
import { ancestors, chooseParent, type ParentRequest } from './chain-rules.ts';
import { ChainView } from './chain-view.ts';
import { DigestsWriter, type WrittenDigests } from './digests-writer.ts';
import { type DiskFolder, readDiskFolder, readSidecar } from './disk-folder.ts';
import type { Guard } from './guard.ts';
import { type DiskPlace, digestsFile, diskFolder, imageFile, sidecarFile } from './layout.ts';
import { mostBytes } from './most-bytes.ts';
import { openDigests, placeOf } from './open-backup.ts';
import { type ChangesChoice, chooseChanges, readChanges } from './plan-changes.ts';
import { protectAncestors, protectNew } from './protect-new-backup.ts';
import type { RepositoryContext } from './repository-context.ts';
import { encodeSidecar } from './sidecar.ts';
import type { BackupType, Sidecar } from './sidecar-fields.ts';

export interface BackupRequest {
  readonly place: DiskPlace;
  readonly vmName: string;
  readonly externalId: string | null;
  readonly restorePointId: string;
  readonly type: 'auto' | BackupType;
  readonly compression: 'none' | 'zstd';
  /** Bytes; the chain's own, else the default. */
  readonly clusterSize?: number;
  readonly changeId: string | null;
  readonly policyId: string | null;
  readonly reader: DiskReader;
  /** Where the source itself knows what changed. */
  readonly changes?: ChangeTracking | undefined;
  /** Kind of the source, for the sidecar: file, device, qcow2 … */
  readonly sourceKind: string;
  /** Throws SOURCE_CHANGED when the source is not of the size any more that it had when it was opened. */
  readonly checkSource: () => Promise<void>;
  readonly metadata: Readonly<Record<string, unknown>>;
  /** Backups the catalog knows to be damaged. */
  readonly damaged: ReadonlySet<string>;
}

/** What will be done; can be printed, and nothing is decided after it. */
export interface BackupPlan {
  readonly backupId: string;
  readonly type: BackupType;
  readonly reason: string;
  /** What the backup stands on, newest first; empty for a full. */
  readonly chain: readonly Sidecar[];
  /** How it is known what changed, and the clusters that are read for it; all of them where `changed` is left out. */
  readonly changes: Omit<ChangesChoice, 'list'>;
  readonly changed?: ChangedClusters | undefined;
  readonly layout: ImageLayout;
  /** Bytes that its image, and its image and digests together, can have at most. */
  readonly mostBytes: number;
  readonly mostStoredBytes: number;
  /** There where the parts of so large an image need more memory than the repository's settings give them: bytes. */
  readonly uploadMemory?: number;
  readonly startedAt: number;
}

export interface BackupRun {
  readonly guard: Guard;
  readonly signal?: AbortSignal;
  /** Bytes of the disk that are settled. */
  readonly onProgress?: (done: number, total: number) => void;
  /** See LookOptions. */
  readonly sweptAt?: number | undefined;
}

export interface CreatedBackup {
  readonly sidecar: Sidecar;
  readonly bytesWritten: number;
  readonly clustersWritten: number;
  /** Backup id → its date, for those that got one: the new backup and what it needs. */
  readonly locked: ReadonlyMap<string, number>;
  /** Why the new backup, which is committed, is not protected as it should be; the next look at the disk tries it again. */
  readonly unprotected: ChainkeepError | undefined;
}

export async function planBackup(context: RepositoryContext, request: BackupRequest, signal?: AbortSignal): Promise<BackupPlan> {
  const folder = await readDiskFolder(context.store, context.blake3, request.place);
  const damaged = new Set([...request.damaged, ...folder.damaged.keys()]);
  const wish = { type: request.type, totalBytes: request.reader.size, damaged, ...sizeOf(request), ...renewOf(context) };
  const choice = chooseParent(wish, folder.sidecars);
  const chain = choice.type === 'full' ? [] : ancestors(choice.parent, folder.sidecars);
  const clusterSize = chain[0]?.qcow2.cluster_size ?? request.clusterSize ?? DEFAULT_CLUSTER_SIZE;
  const layout = planLayout(request.reader.size, clusterSize);
  const { list, ...changes } = chooseChanges(request.changes, choice);
  const totalBytes = request.reader.size;
  const changed = await readChanges({ list, ...changes }, chain[0], { clusterSize, totalBytes, signal });
  const most = await mostBytes(request.reader, layout, { isFull: chain.length === 0, changed, signal });
  const backupId = newId(context.clock, newestId(folder));
  const { capabilities } = context.store;
  const upload = planUpload(capabilities, { mostBytes: most.image, headLength: layout.headLength }, imageFile(backupId));
  return {
    backupId,
    type: choice.type,
    reason: choice.reason,
    chain,
    changes,
    changed,
    layout,
    mostBytes: most.image,
    mostStoredBytes: most.image + most.digests,
    ...(upload && upload.memory > (capabilities.upload?.memory ?? 0) && { uploadMemory: upload.memory }),
    startedAt: context.clock.now(),
  };
}

export async function runBackup(
  context: RepositoryContext,
  request: BackupRequest,
  plan: BackupPlan,
  run: BackupRun,
): Promise<CreatedBackup> {
  const { store, blake3 } = context;
  const folder = diskFolder(request.place);
  const { backupId, layout, chain } = plan;
  const readers = await openDigests(context, chain);
  const sinks: ByteSink[] = [];
  const finished: string[] = [];
  try {
    const image = await store.put(folder + imageFile(backupId), {
      headLength: layout.headLength,
      ifAbsent: true,
      mostBytes: plan.mostBytes,
    });
    sinks.push(image);
    const digestsSink = await store.put(folder + digestsFile(backupId, 1), { ifAbsent: true });
    sinks.push(digestsSink);
    const parentRanges = (await readers[0]?.ranges()) ?? new Uint8Array(0);
    const header = { clusterSize: layout.clusterSize, totalBytes: request.reader.size, generation: 1 };
    const digests = new DigestsWriter(digestsSink, blake3, header, parentRanges);
    const builder = new ImageBuilder({ layout, sink: image, blake3, compression: request.compression, ...identity(plan) });
    const parent = chain.length > 0 ? new ChainView(readers) : undefined;
    const recorder = await transfer(context, { request, plan, run, image, builder, digests, parent });
    await request.checkSource();
    const built = await builder.finish();
    finished.push(folder + imageFile(backupId));
    const written = await digests.finish();
    finished.push(folder + digestsFile(backupId, 1));
    const sidecar = describe(context, request, plan, recorder, { ...built, written });
    const extended = await protectAncestors(context, sidecar, chain, run);
    await commit(context, sidecar, chain[0], run, finished);
    const own = await protectNew(context, sidecar, chain, run.guard);
    const { bytesWritten, clustersWritten } = recorder;
    return { sidecar, bytesWritten, clustersWritten, locked: new Map([...extended, ...own.locked]), unprotected: own.unprotected };
  } catch (error) {
    await takeBack(context, sinks, finished, error);
    throw error;
  } finally {
    await Promise.all(readers.map((reader) => reader.close()));
  }
}

interface TransferParts {
  readonly request: BackupRequest;
  readonly plan: BackupPlan;
  readonly run: BackupRun;
  readonly image: ByteSink;
  readonly builder: ImageBuilder;
  readonly digests: DigestsWriter;
  readonly parent: ChainView | undefined;
}

async function transfer(context: RepositoryContext, parts: TransferParts): Promise<BackupRecorder> {
  const { request, plan, run, image, builder, digests, parent } = parts;
  const { changed } = plan;
  const { clusterSize } = plan.layout;
  const { reader } = request;
  const { blake3 } = context;
  const recorder = new BackupRecorder({ builder, digests, parent, changed, blake3, clusterSize, totalBytes: reader.size });
  const signal = AbortSignal.any([run.guard.signal, ...(run.signal ? [run.signal] : [])]);
  const sources = new SourceTable();
  const expected = parent ? 'compare' : 'ignore';
  const view = parent ?? NOTHING_EXPECTED;
  const units = planUnits({ reader, clusterSize, unitBytes: unitBytesFor(clusterSize), view, expected, changed, sources, signal });
  await runTransfer(units, {
    clusterSize,
    codec: CLUSTER_CODEC_URL,
    expected,
    digests: true,
    output: { kind: 'image', sink: image, compression: request.compression, level: COMPRESSION_LEVEL },
    disk: reader,
    sources,
    consume: async (result, settledBelow) => {
      await recorder.consume(result);
      await builder.flush(settledBelow);
      run.onProgress?.(result.offset + result.length, reader.size);
    },
    explain: (failure) => (failure.op === 'write' ? explainWrite(failure, image) : explainSource(failure, reader)),
    signal,
  });
  throwIfCancelled(signal);
  await recorder.finish();
  run.onProgress?.(reader.size, reader.size);
  return recorder;
}

// Level 1 is the fastest; higher levels cost more time than they save room on disks (docs/decisions).
const COMPRESSION_LEVEL = 1;

function identity(plan: BackupPlan): { backing?: { name: string; format: 'qcow2' }; extensions: { type: number; data: Uint8Array }[] } {
  const parent = plan.chain[0];
  const extensions = [encodeChainkeepExtension({ backupId: plan.backupId, generation: 1 })];
  return parent ? { backing: { name: imageFile(parent.backup_id), format: 'qcow2' }, extensions } : { extensions };
}

function describe(
  context: RepositoryContext,
  request: BackupRequest,
  plan: BackupPlan,
  recorder: BackupRecorder,
  built: { size: number; structure: string; written: WrittenDigests },
): Sidecar {
  const parent = plan.chain[0];
  return {
    format: 1,
    backup_id: plan.backupId,
    restore_point_id: request.restorePointId,
    vm_context_id: request.place.vmContextId,
    vm_name: request.vmName,
    external_id: request.externalId,
    disk_id: request.place.diskId,
    backup_type: plan.type,
    parent_backup_id: parent?.backup_id ?? null,
    parent_content_root: parent?.content_root ?? null,
    content_root: built.written.contentRoot,
    chain_id: parent?.chain_id ?? plan.backupId,
    origin_repository_id: null,
    change_id: request.changeId,
    size_bytes: built.size,
    total_bytes: request.reader.size,
    started_at: isoTime(plan.startedAt),
    created_at: isoTime(plan.startedAt),
    completed_at: isoTime(context.clock.now()),
    bytes_read: recorder.bytesRead,
    source: request.sourceKind,
    policy_id: request.policyId,
    qcow2: {
      virtual_size: plan.layout.virtualSize,
      cluster_size: plan.layout.clusterSize,
      compression: request.compression,
      generation: 1,
    },
    digests: { name: digestsFile(plan.backupId, 1), algorithm: 'blake3', root: built.written.root, structure: built.structure },
    metadata: request.metadata,
    tool: `chainkeep/${programVersion()}`,
  };
}

/**
 * The commit. Before it: is the lease still ours, is the repository still ours? After it: is the parent still there? A delete that ran
 * while we did not hold the lease (the process was stopped past its end) would otherwise leave a child without a parent.
 * `finished`: the files of the backup. It is empty after a failure that leaves open whether there is a sidecar: then they stay, for a
 * sidecar without them would be a damaged backup, and without a sidecar they are rubbish that the next run removes.
 */
async function commit(
  context: RepositoryContext,
  sidecar: Sidecar,
  parent: Sidecar | undefined,
  run: BackupRun,
  finished: string[],
): Promise<void> {
  const { store, blake3 } = context;
  const name = diskFolder(placeOf(sidecar)) + sidecarFile(sidecar.backup_id);
  const bytes = encodeSidecar(blake3, sidecar);
  await run.guard.assertHeld();
  await context.assertOwned();
  throwIfCancelled(run.signal);
  const files = finished.splice(0);
  try {
    await writeBlob(store, name, bytes, { ifAbsent: true });
    if (parent) await checkParent(context, sidecar, parent);
  } catch (error) {
    // Without the lease somebody may have built on it meanwhile: then it is for verify to name, not for us to remove.
    await run.guard.assertHeld();
    await uncommit(context, name, error);
    finished.push(...files);
    throw error;
  }
}

async function checkParent({ store, blake3 }: RepositoryContext, sidecar: Sidecar, parent: Sidecar): Promise<void> {
  const found = await readSidecar(store, blake3, placeOf(sidecar), parent.backup_id);
  if (found.content_root === parent.content_root) return;
  throw new ChainkeepError('CHAIN_CORRUPT', `the parent ${parent.backup_id} was replaced while backup ${sidecar.backup_id} was made`);
}

/** Also after a sidecar that could not be written: some stores report a failure of what they have done. Throws `error` when it cannot. */
async function uncommit({ store, logger }: RepositoryContext, name: string, error: unknown): Promise<void> {
  try {
    await store.delete(name);
  } catch (failure) {
    const message = failure instanceof Error ? failure.message : String(failure);
    logger.log('warn', `whether the failed backup counts is not known, its files stay: ${message}`, { sidecar: name });
    throw error;
  }
}

/** After a failure nothing of the run stays; what cannot be removed now is rubbish that the next run on this disk removes. */
async function takeBack(
  context: RepositoryContext,
  sinks: readonly ByteSink[],
  finished: readonly string[],
  error: unknown,
): Promise<void> {
  const failures: unknown[] = [];
  for (const sink of sinks) await sink.abort().catch((failure: unknown) => failures.push(failure));
  for (const name of finished) await context.store.delete(name).catch((failure: unknown) => failures.push(failure));
  for (const failure of failures) {
    const message = failure instanceof Error ? failure.message : String(failure);
    // A bucket may lock whatever is written to it: the files go after their date.
    const level = isChainkeepError(failure, 'IMMUTABLE_RETENTION_ACTIVE') ? 'info' : 'warn';
    context.logger.log(level, `a part of the failed backup could not be removed: ${message}`, {
      after: error instanceof Error ? error.message : String(error),
    });
  }
}

/** The store knows what a failed write means: no room, read-only, broken. */
function explainWrite(failure: WorkerFailure, image: ByteSink): unknown {
  const cause = Object.assign(new Error(failure.message), { code: failure.systemCode });
  return image.direct?.fail(cause) ?? cause;
}

function explainSource(failure: WorkerFailure, reader: DiskReader): ChainkeepError {
  const context = { source: reader.name, offset: failure.offset };
  if (failure.op === 'read' && failure.systemCode === undefined) {
    return new ChainkeepError('SOURCE_CHANGED', `${reader.name} became shorter while it was read: ${failure.message}`, {
      advice: 'nothing was committed; back the disk up while nothing resizes it',
      context,
    });
  }
  if (failure.op === 'read' || failure.op === 'expand') {
    return new ChainkeepError('SOURCE_UNREADABLE', `${reader.name} could not be read at byte ${failure.offset}: ${failure.message}`, {
      advice: 'nothing was committed; check the disk the source lies on',
      context: { ...context, system_code: failure.systemCode },
    });
  }
  return new ChainkeepError('INTERNAL', `internal error at byte ${failure.offset}: ${failure.message}`, { context });
}

function newestId(folder: DiskFolder): string | undefined {
  const ids = [...folder.sidecars.map((sidecar) => sidecar.backup_id), ...folder.damaged.keys()].sort();
  return ids.at(-1);
}

function renewOf({ immutability, clock }: RepositoryContext): Pick<ParentRequest, 'renew'> {
  if (!immutability) return {};
  return { renew: { afterDays: immutability.full_after_days, afterBackups: immutability.full_after_backups, now: clock.now() } };
}

function sizeOf(request: BackupRequest): { clusterSize?: number } {
  return request.clusterSize === undefined ? {} : { clusterSize: request.clusterSize };
}
