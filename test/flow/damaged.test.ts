// Bit rot, lost and swapped files: verify names the backup, the guest range and every restore point that is hit; restore refuses and leaves no file.

import { copyFileSync, mkdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { VerifyOutcome } from '../../src/app-interface.ts';
import { noise, qemuIo, type Refusal, sharedScratchHome, tool } from './scratch-home.ts';

const MIB = 1 << 20;
const CLUSTER = 65_536;
const user = sharedScratchHome();
const disk = user.path('disk.img');
/** full ← incremental ← incremental, and a differential on the full. */
const ids: string[] = [];
let folder = '';
let other = '';

beforeAll(async () => {
  writeFileSync(disk, Buffer.concat([noise(MIB, 1), Buffer.alloc(MIB), noise(MIB + 100, 2)]));
  ids.push((await user.backup(disk, 'vm', '--compression', 'none')).backup_id);
  qemuIo(disk, 'raw', 'write -P 1 128k 64k');
  ids.push((await user.backup(disk, 'vm')).backup_id);
  qemuIo(disk, 'raw', 'write -P 2 256k 64k', 'write -z 2M 64k');
  ids.push((await user.backup(disk, 'vm')).backup_id);
  ids.push((await user.backup(disk, 'vm', '--type', 'differential')).backup_id);
  other = (await user.backup(disk, 'other vm')).backup_id;
  folder = dirname(user.image(String(ids[0])));
});
beforeEach(() => void tool('cp', '-a', folder, user.path('good')));
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(dirname(folder), { recursive: true });
  renameSync(user.path('good'), folder);
});

const [FULL, FIRST, SECOND, DIFFERENTIAL] = [0, 1, 2, 3] as const;
const id = (index: number): string => String(ids[index]);
const file = (index: number, ending: string): string => join(folder, `${id(index)}${ending}`);

function flip(path: string, offset: number): void {
  const bytes = readFileSync(path);
  const at = offset < 0 ? bytes.length + offset : offset;
  bytes[at] = (bytes[at] ?? 0) ^ 0x10;
  writeFileSync(path, bytes);
}

type Answer = VerifyOutcome & Refusal;

async function verify(...args: readonly string[]): Promise<Answer> {
  const run = await user.run('verify', ...args, '--json');
  expect(run.code, run.stderr).toBe(1);
  const answer: Answer = JSON.parse(run.stdout);
  expect(answer.success).toBe(false);
  expect(answer.error_code).toBe(answer.damaged[0]?.code);
  expect(run.stderr).toMatch(/^error: /m);
  expect(run.stderr).toMatch(/^advice: /m);
  return answer;
}

/** The newest of the good ones restores; all others cannot be restored, and leave no file. */
async function expectRestorable(good: readonly number[]): Promise<void> {
  for (const index of [FULL, FIRST, SECOND, DIFFERENTIAL]) {
    if (good.includes(index) && index !== Math.max(...good)) continue;
    const target = user.path('out.img');
    const run = await user.run('restore', id(index), target, '--json');
    expect(run.code, `restore of ${index}: ${run.stderr}`).toBe(good.includes(index) ? 0 : 1);
    if (run.code === 0) rmSync(target);
    else expect(JSON.parse(run.stdout)).toMatchObject({ success: false, error_code: expect.stringMatching(/^[A-Z_]+$/) });
    expect(user.files().filter((name) => name.includes('out.img'))).toEqual([]);
  }
}

describe('a flipped byte', () => {
  it('in a stored cluster: its guest range, and the restore points that read it', async () => {
    // The full is not compressed: its fourth cluster stands there byte for byte. The differential and the second incremental still read it.
    const image = file(FULL, '.qcow2');
    const at = readFileSync(image).indexOf(noise(MIB, 1).subarray(3 * CLUSTER, 3 * CLUSTER + 64));
    expect(at).toBeGreaterThan(0);
    flip(image, at + 5);
    const { damaged, checked } = await verify('--repo', 'default');
    expect(checked).toBe(5);
    expect(damaged).toMatchObject([{ backup_id: id(FULL), code: 'DIGEST_MISMATCH', guest_offset: 3 * CLUSTER, length: CLUSTER }]);
    expect(new Set(damaged[0]?.affects)).toEqual(new Set(ids));
    await expectRestorable([]);
    const refused = await user.refused('DIGEST_MISMATCH', 'restore', id(SECOND), user.path('out.img'));
    expect(refused.error).toContain(String(3 * CLUSTER));
    expect(await user.json('verify', other)).toMatchObject({ damaged: [] });
  });

  it('in a cluster that only one point reads hits that one alone', async () => {
    // Cluster 2 was overwritten by the first incremental: of the full only the full itself reads it.
    const image = file(FULL, '.qcow2');
    const at = readFileSync(image).indexOf(noise(MIB, 1).subarray(2 * CLUSTER, 2 * CLUSTER + 64));
    flip(image, at);
    const { damaged } = await verify('--vm', 'vm');
    expect(damaged).toMatchObject([{ backup_id: id(FULL), guest_offset: 2 * CLUSTER, length: CLUSTER, affects: [id(FULL)] }]);
    await expectRestorable([FIRST, SECOND, DIFFERENTIAL]);
    // What is known to be damaged takes no child: the next backup starts a new chain, and says why.
    const run = await user.run('backup', disk, '--vm', 'vm');
    expect(run.stderr).toMatch(/^note: .*damaged.*new chain/m);
    expect(run.stdout).toContain('full backup');
    await user.json('delete', 'latest', '--vm', 'vm');
    expect((await user.refused('CHAIN_CORRUPT', 'backup', disk, '--vm', 'vm', '--type', 'incremental')).advice).toContain('--type full');
    // Repaired by hand, it is good again once it was verified.
    copyFileSync(join(user.path('good'), `${id(FULL)}.qcow2`), image);
    await user.verifyAll();
    const again = await user.backup(disk, 'vm');
    expect(again.backup_type).toBe('incremental');
    await user.json('delete', again.backup_id);
  });

  it.for([
    ['in the header of an image', '.qcow2', 30],
    ['in the L1 table of an image', '.qcow2', CLUSTER + 3],
    ['at the end of an image', '.qcow2', -1],
    ['in a compressed image', '.qcow2', Math.floor(4.2 * CLUSTER)],
    ['in the head of the digests', '.1.digests', 20],
    ['at the end of the digests', '.1.digests', -1],
    ['in the middle of the digests', '.1.digests', 150],
    ['in the sidecar', '.json', 200],
    ['at the end of the sidecar', '.json', -3],
  ] as const)('%s is found, named, and hits what stands on it', async ([, ending, offset]) => {
    flip(file(FIRST, ending), offset);
    const { damaged } = await verify('--repo', 'default');
    expect(new Set(damaged.map((damage) => damage.backup_id))).toContain(id(FIRST));
    for (const damage of damaged) {
      expect(damage.affects.every((hit) => hit === id(FIRST) || hit === id(SECOND))).toBe(true);
      expect(damage.message.length).toBeGreaterThan(10);
    }
    const first = damaged.find((damage) => damage.backup_id === id(FIRST));
    expect(first?.affects).toContain(id(FIRST));
    const intact = await user.run('restore', id(DIFFERENTIAL), user.path('d.img'));
    expect(intact.code, intact.stderr).toBe(0);
    rmSync(user.path('d.img'));
    const run = await user.run('restore', id(FIRST), user.path('out.img'));
    if (run.code === 0)
      rmSync(user.path('out.img')); // padding: it still reads right
    else expect(user.files().filter((name) => name.includes('out.img'))).toEqual([]);
  });
});

describe('a file', () => {
  it.for(['.qcow2', '.1.digests', '.json'] as const)('that is gone (%s)', async (ending) => {
    rmSync(file(FIRST, ending));
    const { damaged } = await verify('--repo', 'default');
    expect(damaged.map((damage) => damage.backup_id)).toContain(id(FIRST));
    expect(new Set(damaged.flatMap((damage) => damage.affects))).toEqual(new Set([id(FIRST), id(SECOND)]));
    await expectRestorable([FULL, DIFFERENTIAL]);
    expect((await verify('--repo', 'default', '--quick')).damaged.map((damage) => damage.backup_id)).toContain(id(FIRST));
    const missing = await user.run('delete', id(FULL), '--json');
    expect(missing.code).toBe(1);
    expect(user.files().some((name) => name.includes(`${id(FULL)}.qcow2`))).toBe(true);
  });

  it('that was cut short, or is empty', async () => {
    truncateSync(file(SECOND, '.qcow2'), CLUSTER);
    writeFileSync(file(DIFFERENTIAL, '.1.digests'), '');
    const { damaged } = await verify('--repo', 'default');
    expect(new Set(damaged.map((damage) => damage.backup_id))).toEqual(new Set([id(SECOND), id(DIFFERENTIAL)]));
    await expectRestorable([FULL, FIRST]);
  });

  it('that was swapped with that of another backup', async () => {
    copyFileSync(file(SECOND, '.qcow2'), file(FIRST, '.qcow2'));
    expect((await verify('--repo', 'default')).damaged.map((damage) => damage.backup_id)).toContain(id(FIRST));
    await expectRestorable([FULL, DIFFERENTIAL]);
    copyFileSync(file(SECOND, '.json'), file(FIRST, '.json'));
    copyFileSync(file(SECOND, '.1.digests'), file(FIRST, '.1.digests'));
    expect((await verify('--repo', 'default')).damaged.map((damage) => damage.backup_id)).toContain(id(FIRST));
    await expectRestorable([FULL, DIFFERENTIAL]);
  });

  it('of everything: every backup is missed', async () => {
    for (const index of [FULL, FIRST, SECOND, DIFFERENTIAL])
      for (const ending of ['.qcow2', '.1.digests', '.json']) rmSync(file(index, ending));
    const { damaged } = await verify('--vm', 'vm');
    expect(new Set(damaged.map((damage) => damage.backup_id))).toEqual(new Set(ids));
    expect(damaged.every((damage) => damage.code === 'BACKUP_NOT_FOUND')).toBe(true);
    await expectRestorable([]);
    const run = await user.run('backup', disk, '--vm', 'vm');
    expect(run.stdout).toContain('full backup');
    await user.json('delete', 'latest', '--vm', 'vm');
  });
});

it('verify says in text what people need: backup, range, restore points', async () => {
  flip(file(SECOND, '.1.digests'), 30);
  const run = await user.run('verify', '--vm', 'vm');
  expect(run.code).toBe(1);
  expect(run.stdout).toContain(`${id(SECOND)}: `);
  expect(run.stdout).toContain(`restore points hit: ${id(SECOND)}`);
  expect(await user.json('show', id(SECOND))).toMatchObject({ verification_status: 'failed' });
  const [job] = await user.jobs();
  expect(job).toMatchObject({ job_type: 'verify', status: 'completed' });
  expect((await user.jobLog(String(job?.job_id))).some((event) => event.level === 'error' && event.message.includes(id(SECOND)))).toBe(
    true,
  );
});
