// What a backup would do: opens the sources and plans, makes nothing, and leaves no job.

import type { BackupInput, BackupOutcome, JobWatch } from '../../app-interface.ts';
import { findVmContext } from '../../catalog/vm-contexts.ts';
import { checkSpace } from '../../control/space.ts';
import { newId } from '../../plumbing/clock.ts';
import { type Logger, silentLogger } from '../../plumbing/logger.ts';
import { DEFAULT_CLUSTER_SIZE, planLayout } from '../../qcow2/image-layout.ts';
import { chooseParent } from '../../repository/chain-rules.ts';
import type { BackupPlan } from '../../repository/create-backup.ts';
import { chooseChanges } from '../../repository/plan-changes.ts';
import { checkInput, memoryNotice, newVm, type RepositoryChoice, type Run, type VmIdentity } from './backup.ts';
import { requestFor } from './backup-request.ts';
import { estimateOf } from './backup-room.ts';
import { type Disk, openDisks } from './backup-sources.ts';
import type { JobEnvironment } from './job-environment.ts';
import { parentMarkOf } from './parent-mark.ts';

/** Throws what the backup itself would throw up to its plan. */
export async function planBackupOnly(
  environment: JobEnvironment,
  choice: RepositoryChoice,
  input: BackupInput,
  watch: JobWatch,
): Promise<readonly BackupOutcome[]> {
  checkInput(input);
  const onNotice = (notice: string): void => watch.onNotice?.(notice);
  const parentMark = parentMarkOf(environment, choice, input);
  const { disks, close } = await openDisks(input, { onNotice, isPlanOnly: true, parentMark, signal: watch.signal });
  try {
    const context = await vmOf(environment, input);
    const planned = await planDisks({ environment, choice, input }, disks, watch);
    return planned.map(({ disk, plan }) => outcomeOf(disk, plan, context, choice));
  } finally {
    await close();
  }
}

export interface PlannedRun {
  readonly environment: JobEnvironment;
  readonly choice: RepositoryChoice;
  readonly input: BackupInput;
}

/** The plan of each disk as it would be now; what a person should know of it is told. */
export async function planDisks(
  { environment, choice, input }: PlannedRun,
  disks: readonly Disk[],
  watch: JobWatch,
): Promise<readonly { readonly disk: Disk; readonly plan: Planned }[]> {
  const context = await vmOf(environment, input);
  const logger: Logger = { log: (level, message) => (level === 'warn' ? watch.onNotice?.(message) : undefined) };
  const plan = choice.row
    ? planIn({ environment, row: choice.row, input, context, restorePointId: 'dry-run' }, logger, watch.signal)
    : planAlone(environment, input);
  const all: { readonly disk: Disk; readonly plan: Planned }[] = [];
  for (const disk of disks) {
    const planned = await plan(disk);
    const memory = memoryNotice(planned);
    if (memory !== undefined) watch.onNotice?.(memory);
    if (planned.changes.isMissed) watch.onNotice?.(planned.changes.reason);
    all.push({ disk, plan: planned });
  }
  return all;
}

async function vmOf(environment: JobEnvironment, { vm }: BackupInput): Promise<VmIdentity> {
  return (await findVmContext(environment.catalog, vm)) ?? newVm(environment, vm);
}

export type Planned = Pick<BackupPlan, 'backupId' | 'type' | 'chain' | 'changes' | 'uploadMemory' | 'mostBytes'>;

/** Also whether there is room, at this moment; a plan reserves nothing. */
function planIn(run: Run, logger: Logger, signal: AbortSignal | undefined): (disk: Disk) => Promise<Planned> {
  const { environment, row, context } = run;
  return async (disk) => {
    const { repository } = await environment.repositories.openRepository(row, silentLogger);
    try {
      const plan = await repository.planBackup(await requestFor(run, repository, disk), signal);
      const place = { vmContextId: context.context_id, diskId: disk.diskId };
      const wanted = { repository: row, owner: environment.owner, logger, measure: () => repository.getStorageInfo() };
      await checkSpace(environment.catalog, wanted, await estimateOf(environment, row.id, place, plan));
      return plan;
    } finally {
      await repository.close();
    }
  };
}

/** Where the repository would have to be made first, there is nothing to build on. */
function planAlone({ clock }: JobEnvironment, input: BackupInput): (disk: Disk) => Promise<Planned> {
  return async ({ source }) => {
    const totalBytes = source.reader.size;
    planLayout(totalBytes, input.cluster_size ?? DEFAULT_CLUSTER_SIZE);
    const choice = chooseParent({ type: input.type, totalBytes }, []);
    return { backupId: newId(clock), type: choice.type, chain: [], changes: chooseChanges(source.changes, choice), mostBytes: totalBytes };
  };
}

function outcomeOf(disk: Disk, plan: Planned, context: VmIdentity, repository: RepositoryChoice): BackupOutcome {
  return {
    backup_id: plan.backupId,
    backup_type: plan.type,
    parent_backup_id: plan.chain[0]?.backup_id ?? null,
    vm_context_id: context.context_id,
    disk_id: disk.diskId,
    repository: repository.name,
    total_bytes: disk.source.reader.size,
    size_bytes: 0,
    bytes_read: 0,
    bytes_written: 0,
    clusters_written: 0,
    duration_ms: 0,
    job_id: '',
    restore_point_id: '',
    changes: plan.changes.reason,
  };
}
