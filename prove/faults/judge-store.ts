// What must hold after a step of the store's story, whether it failed or not. It looks through a store that does not fail.
// It answers what does not hold; only what nobody expected is thrown.

import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { openRawReader } from '../../src/disk/raw-file-reader.ts';
import { type ErrorCode, isChainkeepError } from '../../src/plumbing/errors.ts';
import { listLeftovers } from '../../src/store/testing/store-probe.ts';
import { bytesSource } from '../../test/repository/model-disk.ts';
import { backUp, findDamage, heldGuard, PLACE, restoredBytes } from '../../test/repository/scratch-repository.ts';
import { type Claim, isThere, type KnownBackup, type Scene, type Step, VerifyFoundDamage } from './store-story.ts';

export interface StepOutcome {
  readonly claim?: Claim;
  readonly error?: unknown;
  /** Was anything injected? */
  readonly hit: boolean;
  /** What the injected error is called. */
  readonly codes: readonly ErrorCode[];
}

/** Also takes the next backup, as a user would; the scene is used up then. */
export async function judgeStore(step: Step, scene: Scene, outcome: StepOutcome): Promise<string[]> {
  const faults = [...judgeError(step, outcome), ...judgeTargets(scene, outcome)];
  const { repository } = scene.test;
  const folder = await repository.readDisk(PLACE);
  for (const [id, error] of folder.damaged) faults.push(`${id} is damaged: ${error.message}`);
  const expected = expectedBackups(step, scene, outcome, isThere.bind(undefined, folder.sidecars), faults);
  for (const { backup_id: id } of folder.sidecars) {
    const known = expected.find((backup) => backup.id === id);
    // What was made by a run that failed all the same may count; then it must be what it was to be.
    const disk = known?.disk ?? scene.next;
    if (!known && !step.name.includes('backup')) faults.push(`${id} came from nowhere`);
    const bytes = await restoredBytes(repository, id, join(scene.targets, 'judge'));
    if (!bytes.equals(disk)) faults.push(`${id} restores with other content`);
  }
  for (const damage of await findDamage(repository)) faults.push(`verify: ${damage.message}`);
  faults.push(...(await judgeNextRun(scene)));
  return faults;
}

function judgeError(step: Step, { claim, error, hit, codes }: StepOutcome): string[] {
  if (claim !== undefined) {
    // A verify reads, and whatever it could not read it cannot have found good.
    return hit && step.name === 'verify' ? ['the verify said that all is good, and one of its reads had failed'] : [];
  }
  if (!hit) return [`failed though nothing was injected: ${stackOf(error)}`];
  if (error instanceof VerifyFoundDamage) return [];
  if (!isChainkeepError(error)) return [`threw what is no ChainkeepError: ${stackOf(error)}`];
  return codes.includes(error.code) ? [] : [`said ${error.code} (${error.message}), injected was ${codes.join(' or ')}`];
}

function judgeTargets({ targets }: Scene, { claim }: StepOutcome): string[] {
  const files = readdirSync(targets);
  if (claim?.restored === undefined) return files.length === 0 ? [] : [`a restore that failed has left ${files.join(', ')}`];
  const { path, disk, format } = claim.restored;
  if (files.length !== 1) return [`a restore has made ${files.join(', ') || 'nothing'}`];
  if (format === 'qcow2') execFileSync('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', path, `${path}.raw`], { timeout: 60_000 });
  const restored = readFileSync(format === 'qcow2' ? `${path}.raw` : path).subarray(0, disk.length);
  return restored.equals(disk) ? [] : ['a restore ended well with other content'];
}

/** The backups that must be there. */
function expectedBackups(
  step: Step,
  { backups }: Scene,
  { claim }: StepOutcome,
  isThere: (id: string) => boolean,
  faults: string[],
): KnownBackup[] {
  const expected = [...backups, ...(claim?.made ? [claim.made] : [])];
  for (const [index, { id }] of expected.entries()) {
    if (claim?.deleted === id) {
      if (isThere(id)) faults.push(`${id} was deleted, and is there`);
    } else if (!isThere(id) && index !== step.mayDelete) {
      faults.push(`${id} is gone`);
    }
  }
  return expected;
}

/** The next run needs nobody's help, and behind it there are three files for each backup and nothing else. */
async function judgeNextRun({ test, next, targets }: Scene): Promise<string[]> {
  const { repository } = test;
  await repository.removeRubbish(PLACE, heldGuard(), async () => 'dead');
  const { sidecar } = await backUp(repository, openRawReader(bytesSource(next)));
  const bytes = await restoredBytes(repository, sidecar.backup_id, join(targets, 'judge'));
  const faults = bytes.equals(next) ? [] : ['the next backup restores with other content'];
  const { sidecars, rubbish } = await repository.readDisk(PLACE);
  const files = readdirSync(test.folder);
  const strangers = files.filter((file) => !sidecars.some(({ backup_id: id }) => file.startsWith(`${id}.`)));
  if (rubbish.length > 0 || strangers.length > 0 || files.length !== 3 * sidecars.length)
    faults.push(`rubbish stays: ${files.join(', ')} for ${sidecars.length} backups`);
  const leftovers = await listLeftovers(test.store);
  return leftovers.length === 0 ? faults : [...faults, `temporaries stay: ${leftovers.join(', ')}`];
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
