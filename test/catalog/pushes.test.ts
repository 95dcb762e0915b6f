// What the catalog knows of restore points as a whole, of pushes that somebody completes, and of how long is waited for them.

import { describe, expect, it } from 'vitest';
import { completeBackup } from '../../src/catalog/complete-backup.ts';
import { findCompletion, requestCompletion } from '../../src/catalog/push-completions.ts';
import { DEFAULT_PUSH_LIMITS, findPushLimits, setPushLimits } from '../../src/catalog/push-limits.ts';
import { listRestorePoints } from '../../src/catalog/restore-points.ts';
import { sql } from '../../src/catalog/sql.ts';
import { insertTrackedJob } from '../jobs/tracked-job.ts';
import { AT, addRepository, addVm, backupRow, openScratch } from './scratch-catalog.ts';

const minute = (count: number): string => new Date(Date.parse(AT) + count * 60_000).toISOString();

describe('restore points', () => {
  it('are complete when their last disk is, and listed as they were at a time', async () => {
    const { catalog } = await openScratch();
    await addRepository(catalog);
    await addVm(catalog);
    await addVm(catalog, 'vm-2', 'other');
    const rows = [
      backupRow('b1', 1, { restore_point_id: 'p1', chain_id: 'b1' }),
      backupRow('b2', 3, { restore_point_id: 'p1', chain_id: 'b2', disk_id: 1 }),
      backupRow('b3', 5, { restore_point_id: 'p2', chain_id: 'b3' }),
      backupRow('b4', 5, { restore_point_id: 'p3', chain_id: 'b4', vm_context_id: 'vm-2' }),
    ];
    for (const row of rows) await completeBackup(catalog, row);
    const at = async (time: string): Promise<readonly string[]> =>
      (await listRestorePoints(catalog, 'vm-1', time, 10)).map(({ restore_point_id }) => restore_point_id);
    expect(await at(minute(2))).toEqual([]);
    expect(await at(minute(3))).toEqual(['p1']);
    expect(await at(minute(60))).toEqual(['p2', 'p1']);
    expect((await listRestorePoints(catalog, 'vm-1', minute(60), 1)).map(({ completed_at }) => Date.parse(completed_at))).toEqual([
      Date.parse(minute(5)),
    ]);
  });
});

describe('the wish that a push is complete', () => {
  it('is taken once, and goes with its job', async () => {
    const { catalog } = await openScratch();
    const job = await insertTrackedJob(catalog, { job_type: 'backup', operation: 'push', metadata: {} });
    expect(await findCompletion(catalog, job)).toBeUndefined();
    expect(await requestCompletion(catalog, job, 'c1')).toMatchObject({ change_id: 'c1' });
    expect(await requestCompletion(catalog, job, 'c2')).toMatchObject({ change_id: 'c1' });
    expect(await findCompletion(catalog, job)).toMatchObject({ job_id: job, change_id: 'c1' });
    await catalog.run(sql`delete from job_tracking where id = ${job}`);
    expect(await findCompletion(catalog, job)).toBeUndefined();
  });
});

describe('the limits of pushes', () => {
  it('keep what is not set', async () => {
    const { catalog } = await openScratch();
    expect(await findPushLimits(catalog)).toEqual(DEFAULT_PUSH_LIMITS);
    await setPushLimits(catalog, { wait: 60 });
    await setPushLimits(catalog, { reconnect_within: 5 });
    expect(await findPushLimits(catalog)).toEqual({ wait: 60, reconnect_within: 5 });
  });
});
