// Verifies one backup by itself: sidecar, digests, the image's structure, every stored cluster, and that every other byte is zero.
// What the backup means for others (restore points that are hit, content roots) is verify-disk.ts.

import { ChainkeepError, type ErrorCode, throwIfCancelled } from '../plumbing/errors.ts';
import { CLUSTER_CODEC_URL } from '../qcow2/cluster-codec-url.ts';
import type { Qcow2Image } from '../qcow2/image.ts';
import { readStructure } from '../qcow2/read-structure.ts';
import { UsedBytes, WINDOW_CLUSTERS } from '../qcow2/used-bytes.ts';
import type { BlobInfo } from '../store/blob-store.ts';
import { planUnits, SourceTable, type UnitPlan } from '../transfer/plan-units.ts';
import { runTransfer, unitBytesFor } from '../transfer/run-transfer.ts';
import { OUTCOME, PIECE, PIECE_NUMBERS, type Unit, type UnitResult } from '../transfer/unit.ts';
import { ChainView } from './chain-view.ts';
import type { DigestsReader } from './digests-reader.ts';
import { openImage } from './open-backup.ts';
import type { RepositoryContext } from './repository-context.ts';
import type { Sidecar } from './sidecar-fields.ts';

export interface FoundDamage {
  readonly code: string;
  readonly message: string;
  /** Guest bytes; null where the damage is not in the data. */
  readonly guestOffset: number | null;
  readonly length: number | null;
}

export interface VerifyRun {
  /** Metadata only: no stored cluster is read. */
  readonly quick: boolean;
  /** Clusters of an image file that are accounted for at a time; bounds the memory (4 bytes each). */
  readonly windowClusters?: number;
  readonly signal?: AbortSignal;
  /** Is called around the reading of each backup. */
  readonly whileReading?: <T>(backupId: string, work: () => Promise<T>) => Promise<T>;
  readonly onProgress?: (done: number) => void;
  /** Everything in the folder of the disk, where it was listed a moment ago. */
  readonly listed?: readonly BlobInfo[];
}

export interface VerifiedImage {
  readonly damage: readonly FoundDamage[];
  readonly clusters: number;
  /** Expanded bytes compared. */
  readonly bytes: number;
}

export async function verifyImage(
  context: RepositoryContext,
  sidecar: Sidecar,
  digests: DigestsReader,
  run: VerifyRun,
): Promise<VerifiedImage> {
  let image: Qcow2Image;
  try {
    image = await openImage(context, sidecar);
  } catch (error) {
    return { damage: [damageOf(error)], clusters: 0, bytes: 0 };
  }
  const damage: FoundDamage[] = [];
  try {
    const used = new UsedBytes(sidecar.size_bytes, sidecar.qcow2.cluster_size, 0, run.windowClusters);
    await collect(damage, () => checkStructure(context, sidecar, image, used));
    if (run.quick) return { damage, clusters: 0, bytes: 0 };
    const counted = { clusters: 0, bytes: 0 };
    const plan = planCheck(sidecar, image, digests, run);
    await collect(damage, () => checkClusters(plan, sidecar, { run, damage, counted, used }));
    if (damage.length === 0) await collect(damage, () => checkRest(context, sidecar, image, { plan, used, run }));
    return { damage, ...counted };
  } finally {
    await image.close();
  }
}

async function collect(damage: FoundDamage[], check: () => Promise<void>): Promise<void> {
  try {
    await check();
  } catch (error) {
    damage.push(damageOf(error));
  }
}

/** A store that cannot be used says nothing of what it keeps; one whose disk does not give a file back (STORE_FAILED) does. */
const NO_DAMAGE: readonly ErrorCode[] = ['CANCELLED', 'INTERNAL', 'REPOSITORY_OFFLINE', 'MOUNT_FAILED', 'LEASE_LOST'];

/** What was thrown as damage to report; a cancellation and bugs go on as they are. */
export function damageOf(error: unknown): FoundDamage {
  if (!(error instanceof ChainkeepError) || NO_DAMAGE.includes(error.code)) throw error;
  const { guest_offset: offset, length } = error.context;
  return {
    code: error.code,
    message: error.message,
    guestOffset: typeof offset === 'number' ? offset : null,
    length: typeof length === 'number' ? length : null,
  };
}

async function checkStructure(context: RepositoryContext, sidecar: Sidecar, image: Qcow2Image, used: UsedBytes): Promise<void> {
  const { source, header } = image;
  const structure = await readStructure({ source, header, diskSize: sidecar.total_bytes, blake3: context.blake3 }, used);
  if (structure === sidecar.digests.structure) return;
  throw new ChainkeepError('CHAIN_CORRUPT', `the header or a table of the image of backup ${sidecar.backup_id} is damaged`, {
    advice: 'bring the image back from a copy',
    context: { backup_id: sidecar.backup_id },
  });
}

interface ClusterCheck {
  readonly run: VerifyRun;
  readonly damage: FoundDamage[];
  readonly counted: { clusters: number; bytes: number };
  readonly used: UsedBytes;
}

function planCheck(sidecar: Sidecar, image: Qcow2Image, digests: DigestsReader, { signal }: VerifyRun): UnitPlan {
  const clusterSize = sidecar.qcow2.cluster_size;
  return {
    reader: { ...image, size: Math.min(sidecar.total_bytes, image.size) },
    clusterSize,
    unitBytes: unitBytesFor(clusterSize),
    view: new ChainView([digests]),
    expected: 'report',
    sources: new SourceTable(),
    ...(signal ? { signal } : {}),
  };
}

async function checkClusters(plan: UnitPlan, sidecar: Sidecar, check: ClusterCheck): Promise<void> {
  const { clusterSize, reader, sources, signal } = plan;
  const { run, damage, counted, used } = check;
  await runTransfer(markStreams(planUnits(plan), used), {
    clusterSize,
    codec: CLUSTER_CODEC_URL,
    expected: 'report',
    digests: true,
    output: { kind: 'none' },
    disk: reader,
    sources,
    consume: (result) => {
      addDamage(damage, result, sidecar);
      countStored(counted, result, clusterSize);
      run.onProgress?.(result.offset + result.length);
    },
    explain: ({ message, offset, systemCode }) =>
      new ChainkeepError('STORE_FAILED', `backup ${sidecar.backup_id}: ${message}`, {
        context: { guest_offset: offset, system_code: systemCode },
      }),
    ...(signal ? { signal } : {}),
  });
}

/** Notes which bytes compressed clusters take: a plan knows their exact length from the digests, the image only up to a sector. */
async function* markStreams(units: AsyncIterable<Unit>, used: UsedBytes): AsyncGenerator<Unit> {
  for await (const unit of units) {
    const { pieces } = unit;
    for (let at = 0; at < pieces.length; at += PIECE_NUMBERS) {
      if (pieces[at + PIECE.COMPRESSION] !== 0) used.add(pieces[at + PIECE.AT] ?? 0, pieces[at + PIECE.STORED_LENGTH] ?? 0);
    }
    yield unit;
  }
}

/** A unit also covers clusters that the image leaves out: they read as zeros. */
function countStored(counted: ClusterCheck['counted'], result: UnitResult, clusterSize: number): void {
  for (const [index, outcome] of result.outcome.entries()) {
    if (outcome === OUTCOME.ZERO) continue;
    counted.clusters += 1;
    counted.bytes += Math.min(clusterSize, result.length - index * clusterSize);
  }
}

/** Bad clusters of one unit; neighbours with the same fault are one range. */
function addDamage(damage: FoundDamage[], result: UnitResult, sidecar: Sidecar): void {
  const clusterSize = sidecar.qcow2.cluster_size;
  for (let index = 0; index < result.outcome.length; index++) {
    const outcome = result.outcome[index];
    if (outcome !== OUTCOME.MISMATCH && outcome !== OUTCOME.UNREADABLE) continue;
    const guestOffset = result.offset + index * clusterSize;
    const length = Math.min(clusterSize, sidecar.total_bytes - guestOffset);
    const unreadable = outcome === OUTCOME.UNREADABLE;
    const code = 'DIGEST_MISMATCH';
    const message = unreadable
      ? `the cluster cannot be read: ${result.failure ?? 'unknown reason'}`
      : 'the cluster is not what was backed up';
    const last = damage.at(-1);
    if (last?.guestOffset != null && last.length != null && last.message === message && last.guestOffset + last.length === guestOffset) {
      damage[damage.length - 1] = { ...last, length: last.length + length };
    } else {
      damage.push({ code, message, guestOffset, length });
    }
  }
}

interface RestCheck {
  readonly plan: UnitPlan;
  /** The first window, marked by the checks before. */
  readonly used: UsedBytes;
  readonly run: VerifyRun;
}

/** Everything is accounted for once, and what is not used by anything is zero. Behind the first window the metadata is read once more for each. */
async function checkRest(context: RepositoryContext, sidecar: Sidecar, image: Qcow2Image, { plan, used, run }: RestCheck): Promise<void> {
  const { size_bytes: size, qcow2 } = sidecar;
  const window = run.windowClusters ?? WINDOW_CLUSTERS;
  await checkWindow(sidecar, image, used);
  for (let first = window; first * qcow2.cluster_size < size; first += window) {
    const next = new UsedBytes(size, qcow2.cluster_size, first, window);
    await checkStructure(context, sidecar, image, next);
    for await (const _unit of markStreams(planUnits(plan), next)) throwIfCancelled(run.signal);
    await checkWindow(sidecar, image, next);
  }
}

async function checkWindow(sidecar: Sidecar, image: Qcow2Image, used: UsedBytes): Promise<void> {
  const overlap = used.findOverlap();
  const stray = overlap === undefined ? await used.findStray(image.source) : undefined;
  if (overlap === undefined && !stray) return;
  const what = stray ? `byte ${stray.offset} is used by nothing and is not zero` : `the cluster at byte ${overlap} is used twice`;
  throw new ChainkeepError('CHAIN_CORRUPT', `the image of backup ${sidecar.backup_id} is damaged: ${what}`, {
    advice: 'its restore points still read right; bring the image back from a copy',
    context: { backup_id: sidecar.backup_id },
  });
}
