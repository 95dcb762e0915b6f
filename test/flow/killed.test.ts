// kill -9 at random moments: the next command recovers by itself, earlier backups are intact, the job log tells it, no rubbish stays.
// `npm run test:all` kills more often. The moments follow from the seed and from how long a command takes here.

import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { noise, type ScratchHome, scratchHome } from './scratch-home.ts';

const MIB = 1 << 20;
const KILLS = process.env.CHAINKEEP_TEST_ALL ? 60 : 4;
const LIMIT_MS = 60_000 + KILLS * 15_000; // for what hangs, not for what is slow

/** Numbers from 0 to 1, the same for the same seed. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Runs the command and kills it after `moment` milliseconds; answers whether it was killed before it had ended. */
async function killAfter(user: ScratchHome, moment: number, args: readonly string[]): Promise<boolean> {
  const run = user.start(...args);
  await Promise.race([sleep(moment), run.ended]);
  run.kill('SIGKILL');
  return (await run.ended).code === null;
}

async function duration(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

/** What the next command must have settled. */
async function expectSettled(user: ScratchHome): Promise<void> {
  expect(await user.list('--status', 'running')).toEqual([]);
  expect(await user.jobs('--status', 'running')).toEqual([]);
}

/** Every file of the repository belongs to a completed backup. */
async function expectNoRubbish(user: ScratchHome): Promise<void> {
  const ids = (await user.list('--status', 'completed')).map((backup) => backup.backup_id);
  const files = user.files('home/repositories/default/vms').filter((file) => /\d$/.test(file));
  expect(files.filter((file) => !ids.some((id) => file.includes(id)))).toEqual([]);
  expect(files.length).toBe(3 * ids.length);
}

/** How many kills came in time depends on the machine: a figure to read, nothing to fail on. */
function say(figure: string): void {
  process.stdout.write(`${figure}\n`);
}

it.concurrent(`${KILLS} times in a backup`, { timeout: LIMIT_MS }, async ({ onTestFinished }) => {
  const user = scratchHome(onTestFinished);
  const random = randomNumbers(11);
  const disk = user.path('disk.img');
  writeFileSync(disk, noise(12 * MIB, 1));
  await user.backup(disk, 'vm');
  let usual = await duration(() => user.backup(disk, 'vm', '--type', 'full'));
  let killed = 0;
  let completed = 2;
  for (let round = 0; round < KILLS; round += 1) {
    writeFileSync(disk, noise(MIB, round + 2), { flag: 'r+' });
    const before = await user.list('--status', 'completed');
    const [last] = await user.jobs();
    const type = random() < 0.5 ? 'full' : 'incremental';
    const moment = usual * (0.2 + 0.8 * random());
    const wasKilled = await killAfter(user, moment, ['backup', disk, '--vm', 'vm', '--type', type]);
    killed += wasKilled ? 1 : 0;
    await expectSettled(user);
    const after = await user.list('--status', 'completed');
    // Nothing earlier is lost; the killed one is there whole, or not at all.
    expect(after.slice(-before.length)).toEqual(before);
    if (after.length > before.length) await user.expectRestores(String(after[0]?.backup_id), disk);
    const [job] = await user.jobs();
    if (job?.job_id !== last?.job_id) expect(job?.status).toBe(after.length > before.length ? 'completed' : 'failed');
    // A job that had completed when its process was killed has nothing to be settled.
    if (job?.job_id !== last?.job_id && wasKilled && job?.status === 'failed') {
      const log = await user.jobLog(String(job.job_id));
      expect(log.at(-1)?.message, JSON.stringify({ job, log })).toMatch(/died/);
    }
    usual = Math.min(usual, await duration(async () => (completed = (await user.backup(disk, 'vm')).bytes_read)));
    await expectNoRubbish(user);
  }
  say(`${killed} backups killed, ${completed} of all completed`);
  await user.verifyAll();
  await user.expectRestores(String((await user.list())[0]?.backup_id), disk);
});

it.concurrent(`${KILLS} times in a restore`, { timeout: LIMIT_MS }, async ({ onTestFinished }) => {
  const user = scratchHome(onTestFinished);
  const random = randomNumbers(12);
  const disk = user.path('disk.img');
  const target = user.path('out.img');
  writeFileSync(disk, noise(24 * MIB, 1));
  const { backup_id: id } = await user.backup(disk, 'vm');
  const usual = await duration(() => user.json('restore', id, target));
  const before = user.files();
  let killed = 0;
  for (let round = 0; round < KILLS; round += 1) {
    writeFileSync(target, 'precious');
    const moment = usual * (0.2 + 0.8 * random());
    const [last] = await user.jobs();
    const wasKilled = await killAfter(user, moment, ['restore', id, target, '--force']);
    killed += wasKilled ? 1 : 0;
    const replaced = readFileSync(target).length > 8;
    expect(readFileSync(target).equals(replaced ? readFileSync(disk) : Buffer.from('precious'))).toBe(true);
    await expectSettled(user);
    rmSync(target);
    expect(user.files().filter((file) => !before.includes(file))).toEqual([]);
    const [job] = await user.jobs();
    // A file that has its place already was finished by a job that may not have said so any more.
    if (job?.job_id !== last?.job_id && !replaced) expect(job?.status).toBe('failed');
    if (job?.job_id !== last?.job_id && !wasKilled) expect(job?.status).toBe('completed');
  }
  say(`${killed} killed`);
  await user.expectRestores(id, disk);
});

it.concurrent(`${KILLS} times in a delete`, { timeout: LIMIT_MS }, async ({ onTestFinished }) => {
  const user = scratchHome(onTestFinished);
  const random = randomNumbers(13);
  const disk = user.path('disk.img');
  writeFileSync(disk, noise(300_000, 1));
  const base = await user.backup(disk, 'vm');
  let usual = Number.POSITIVE_INFINITY;
  let killed = 0;
  for (let round = 0; round < KILLS; round += 1) {
    const { backup_id: id } = await user.backup(disk, 'vm');
    if (usual === Number.POSITIVE_INFINITY) {
      usual = await duration(() => user.json('delete', id));
      continue;
    }
    const moment = usual * (0.5 + 0.5 * random());
    killed += (await killAfter(user, moment, ['delete', id])) ? 1 : 0;
    await expectSettled(user);
    const there = await user.list('--status', 'completed');
    if (there.some((backup) => backup.backup_id === id)) await user.expectRestores(id, disk);
    else await user.refused('BACKUP_NOT_FOUND', 'show', id);
    await expectNoRubbish(user);
    await user.verifyAll();
  }
  say(`${killed} killed`);
  await user.expectRestores(base.backup_id, disk);
});
