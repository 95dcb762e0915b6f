// Ctrl-C in the middle of things: what runs ends cleanly and soon, everything earlier stays, nothing half done is left.

import { readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { noise, refusal, sharedScratchHome } from './scratch-home.ts';

const MIB = 1 << 20;
const SLOW = 'pread64:delay_enter=40000';
const user = sharedScratchHome();
const disk = user.path('disk.img');
let first = '';

beforeAll(async () => {
  writeFileSync(disk, noise(40 * MIB, 1));
  first = (await user.backup(disk, 'vm')).backup_id;
});

describe('Ctrl-C', () => {
  it.for(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('by %s during a backup', async (signal) => {
    writeFileSync(disk, noise(MIB, 7), { flag: 'r+' });
    const before = user.files();
    const run = user.startWithFault(SLOW, disk, 'backup', disk, '--vm', 'vm', '--json');
    await user.appears('**/*.qcow2.tmp-*');
    run.kill(signal);
    const refused = refusal(await run.ended, 'CANCELLED');
    expect(refused.error).toContain(signal);
    expect(user.files()).toEqual(before);
    const [job] = await user.jobs();
    expect(job).toMatchObject({
      job_type: 'backup',
      status: 'cancelled',
      error_message: refused.error,
      metadata: { error_code: 'CANCELLED' },
    });
    const { steps } = await user.showJob(String(job?.job_id));
    expect(steps.at(-1)).toMatchObject({ status: 'failed', error_message: refused.error });
    expect((await user.list())[0]).toMatchObject({ status: 'cancelled' });
  });

  it('leaves the chain as it was: the next backup builds on it', async () => {
    const next = await user.backup(disk, 'vm');
    expect(next).toMatchObject({ backup_type: 'incremental', parent_backup_id: first });
    await user.expectRestores(next.backup_id, disk);
  });

  it('during a restore leaves no file, and the old one where it was to be replaced', async () => {
    const image = user.image(first);
    const before = user.files();
    const target = user.path('out.img');
    const run = user.startWithFault(SLOW, image, 'restore', first, target, '--json');
    await user.appears('.out.img.chainkeep-*');
    run.kill('SIGINT');
    refusal(await run.ended, 'CANCELLED');
    expect(user.files()).toEqual(before);
    expect((await user.jobs())[0]).toMatchObject({ job_type: 'restore', status: 'cancelled' });

    writeFileSync(target, 'precious');
    const again = user.startWithFault(SLOW, image, 'restore', first, target, '--force', '--format', 'qcow2', '--json');
    await user.appears('.out.img.chainkeep-*');
    again.kill('SIGINT');
    refusal(await again.ended, 'CANCELLED');
    expect(user.files()).toEqual([...before, 'out.img 8'].sort());
    expect(readFileSync(target, 'utf8')).toBe('precious');
  });

  it('during a verify marks nothing as verified', async () => {
    const run = user.startWithFault(SLOW, user.image(first), 'verify', first, '--json');
    for (;;) if ((await user.jobs('--status', 'running')).length > 0) break;
    run.kill('SIGINT');
    refusal(await run.ended, 'CANCELLED');
    expect((await user.jobs())[0]).toMatchObject({ job_type: 'verify', status: 'cancelled' });
    expect(await user.json('show', first)).toMatchObject({ verification_status: 'never' });
  });

  it('twice ends at once; the next command cleans up', async () => {
    const before = user.files();
    const run = user.startWithFault('pread64:delay_enter=400000', disk, 'backup', disk, '--vm', 'vm', '--type', 'full');
    await user.appears('**/*.qcow2.tmp-*');
    run.kill('SIGINT');
    await run.said('stopping');
    run.kill('SIGINT');
    expect((await run.ended).code).toBe(1);
    await user.list();
    expect(user.files()).toEqual(before);
    expect((await user.jobs('--status', 'running')).length).toBe(0);
    expect((await user.jobs())[0]?.status).toMatch(/failed|cancelled/);
    await user.verifyAll();
  });
});
