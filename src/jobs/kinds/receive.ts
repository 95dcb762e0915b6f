// Receives disks that are pushed over NBD into scratch files, until somebody says that they are complete; then the ordinary backup job reads them.
// It must not take a client's leaving for the end of a push.

import { setTimeout as sleep } from 'node:timers/promises';
import type { BackupInput, BackupOutcome, ReceiveInput, ReceiveWatch } from '../../app-interface.ts';
import { findCompletion, type PushCompletion } from '../../catalog/push-completions.ts';
import { findPushLimits } from '../../catalog/push-limits.ts';
import { findVmContext } from '../../catalog/vm-contexts.ts';
import { blankDisk } from '../../disk/blank-disk.ts';
import { openScratchDisk, SCRATCH_CLUSTER, type ScratchDisk } from '../../disk/scratch-disk.ts';
import type { RefusedChange } from '../../nbd/server/nbd-export.ts';
import { ChainkeepError, cancellation, isChainkeepError } from '../../plumbing/errors.ts';
import type { JobContext } from '../job.ts';
import { backup, type RepositoryChoice } from './backup.ts';
import { planDisks } from './backup-dry-run.ts';
import type { Disk } from './backup-sources.ts';
import type { JobEnvironment } from './job-environment.ts';
import { changesOf, demandParent, type PushBase, withPushBase } from './push-base.ts';
import { PushClients } from './push-clients.ts';
import { withServedDisks } from './serve-disks.ts';

/** Milliseconds between two looks whether somebody wants the push to be complete. */
const LOOK_EVERY = 300;

/** In the metadata of a backup job whose disks are pushed: `receiving`, then `complete`. */
const PUSH_STATE = 'push';

interface Receiving {
  readonly environment: JobEnvironment;
  readonly choice: RepositoryChoice;
  readonly input: ReceiveInput;
  readonly watch: ReceiveWatch;
}

/** Throws what a backup throws, CHANGE_ID_MISMATCH and INSUFFICIENT_STORAGE before anything is served, and what PushClients throws. */
export function receive(
  environment: JobEnvironment,
  choice: RepositoryChoice,
  input: ReceiveInput,
  watch: ReceiveWatch,
): Promise<readonly BackupOutcome[]> {
  const wanted = backupInput(input);
  return backup(environment, choice, wanted, watch, {
    words: ', pushed',
    metadata: { [PUSH_STATE]: 'receiving' },
    withDisks: async (job, use) => {
      const receiving = { environment, choice, input, watch };
      return withBases(receiving, wanted, job, (bases) => withScratchDisks(input, bases, (disks) => take(receiving, disks, job, use)));
    },
  });
}

function backupInput({ vm, disks, repository, type, compression, cluster_size, change_id }: ReceiveInput): BackupInput {
  return {
    ...{ vm, type, compression, format: 'raw', with_backing: false, dry_run: false },
    disks: disks.map(({ disk_id }) => ({ disk_id, source: 'pushed' })),
    ...(repository !== undefined && { repository }),
    ...(cluster_size !== undefined && { cluster_size }),
    ...(change_id !== undefined && { change_id }),
  };
}

type Bases = ReadonlyMap<number, PushBase>;

/** Would the backup be possible at all? Asked before an agent begins to push; what the disks with changes stand on is opened. */
async function withBases<T>(receiving: Receiving, wanted: BackupInput, job: JobContext, use: (bases: Bases) => Promise<T>): Promise<T> {
  const { environment, choice, input } = receiving;
  const disks = input.disks.map(({ disk_id, size_bytes, since_change_id: since }) =>
    diskOf(disk_id, { reader: blankDisk(size_bytes), ...(since !== undefined && { changes: demandParent(since) }) }),
  );
  const notices = { signal: job.signal, onNotice: (notice: string): void => job.logger.log('warn', notice) };
  const planned = await job.step('plan', () => planDisks({ environment, choice, input: wanted }, disks, notices).catch(adviseToPushAll));
  const vm = await findVmContext(environment.catalog, input.vm);
  const bases = new Map<number, PushBase>();
  const openFrom = (index: number): Promise<T> => {
    const disk = input.disks[index];
    const plan = planned[index]?.plan;
    if (!disk || !plan) return use(bases);
    const { disk_id: diskId, since_change_id: sinceChangeId } = disk;
    if (sinceChangeId === undefined) return openFrom(index + 1);
    return withPushBase({ environment, choice, vmContextId: vm?.context_id ?? '', diskId, sinceChangeId, plan }, job, (base) => {
      bases.set(diskId, base);
      return openFrom(index + 1);
    });
  };
  return openFrom(0);
}

function adviseToPushAll(error: unknown): never {
  if (!isChainkeepError(error, 'CHANGE_ID_MISMATCH')) throw error;
  const advice = "push what changed since the parent's change id, or leave --since-change-id away and push all of the disk";
  throw new ChainkeepError(error.code, error.message, { advice, context: error.context, cause: error });
}

function diskOf(diskId: number, source: Pick<Disk['source'], 'reader' | 'changes'>): Disk {
  return { diskId, path: 'pushed', source: { ...source, kind: 'push', notices: [], checkUnchanged: async () => undefined } };
}

interface Pushed {
  readonly disk: Disk;
  readonly scratch: ScratchDisk;
}

async function withScratchDisks<T>(input: ReceiveInput, bases: Bases, use: (disks: readonly Pushed[]) => Promise<T>): Promise<T> {
  const pushed: Pushed[] = [];
  try {
    for (const { disk_id: diskId, size_bytes: size, since_change_id: since } of input.disks) {
      const base = bases.get(diskId);
      const room = { folder: input.scratch.folder, most: input.scratch.bytes ?? wholeClusters(size), reserve: true };
      const scratch = await openScratchDisk({ size, ...(base && { base: base.disk }), room });
      const changes = base && since !== undefined && { changes: changesOf(scratch, since, base.backupId) };
      pushed.push({ scratch, disk: diskOf(diskId, { reader: scratch, ...changes }) });
    }
    return await use(pushed);
  } finally {
    await Promise.all(pushed.map(({ scratch }) => scratch.close()));
  }
}

/** The last cluster is counted as a whole one. */
function wholeClusters(size: number): number {
  return Math.ceil(size / SCRATCH_CLUSTER) * SCRATCH_CLUSTER;
}

async function take<T>(
  receiving: Receiving,
  pushed: readonly Pushed[],
  job: JobContext,
  use: (disks: readonly Disk[], input: BackupInput) => Promise<T>,
): Promise<T> {
  const { change_id } = await job.step('receive', () => serve(receiving, pushed, job));
  await job.setMetadata({ [PUSH_STATE]: 'complete' });
  const wanted = backupInput(receiving.input);
  return use(
    pushed.map(({ disk }) => disk),
    change_id === null ? wanted : { ...wanted, change_id },
  );
}

/** Until it is complete: then nothing is written to the disks any more, and all that was is in their files. */
async function serve({ environment, input, watch }: Receiving, pushed: readonly Pushed[], job: JobContext): Promise<PushCompletion> {
  const { clock } = environment;
  const limits = { ...(await findPushLimits(environment.catalog)), ...input.limits };
  const rules = {
    reconnectWithin: limits.reconnect_within * 1000,
    wait: limits.wait * 1000,
    wantsWrites: new Set(input.disks.filter(({ since_change_id: since }) => since === undefined).map(({ disk_id }) => disk_id)),
  };
  const ids = pushed.map(({ disk }) => disk.diskId);
  const clients = new PushClients(ids, rules, () => clock.monotonic());
  const disks = pushed.map(({ scratch, disk: { diskId } }) => ({
    ...{ diskId, disk: scratch, changes: clients.watch(diskId, scratch), onClient: () => clients.join(diskId) },
    onRefused: (change: RefusedChange) => clients.refused(diskId, scratch.size, change),
    description: `${input.vm}, disk ${diskId}, to be written`,
  }));
  const completion = await withServedDisks(job, input, disks, (served) => {
    watch.onServing({ job_id: job.jobId, disks: served });
    return complete({ environment, job, clients, report: () => report(pushed, job) });
  });
  // A write that the system could not bring to its disk is heard of at the latest here.
  for (const { scratch } of pushed) await scratch.sync();
  clients.assertSound();
  return completion;
}

interface Completing {
  readonly environment: JobEnvironment;
  readonly job: JobContext;
  readonly clients: PushClients;
  readonly report: () => void;
}

async function complete({ environment, job, clients, report: say }: Completing): Promise<PushCompletion> {
  for (;;) {
    if (job.signal.aborted) throw cancellation(job.signal);
    const wish = await findCompletion(environment.catalog, job.jobId).catch(unlessBusy);
    // Nothing comes between this look and the end of the server: see withServedDisks.
    if (clients.isComplete(wish !== undefined) && wish) return wish;
    say();
    await sleep(LOOK_EVERY);
  }
}

/** A database that does not answer for a while ends nothing; the heartbeat of the job tells of it. */
function unlessBusy(error: unknown): undefined {
  if (!isChainkeepError(error, 'CATALOG_FAILED') || !error.retryable) throw error;
}

function report(pushed: readonly Pushed[], job: JobContext): void {
  const stored = pushed.reduce((sum, { scratch }) => sum + scratch.storedBytes, 0);
  job.progress(
    'receive',
    stored,
    pushed.reduce((sum, { scratch }) => sum + scratch.size, 0),
  );
}
