// A VM that a job makes for its first backup, and takes back when nothing comes of it: others may have found it meanwhile.

import { expect, it } from 'vitest';
import { findOrMakeVmContext, findVmContext, removeUnusedVmContext } from '../../src/catalog/vm-contexts.ts';
import { currentOwner } from '../../src/control/owner.ts';
import type { JobContext } from '../../src/jobs/job.ts';
import { runJob } from '../../src/jobs/runner.ts';
import { systemClock } from '../../src/plumbing/clock.ts';
import { AT, openScratch } from '../catalog/scratch-catalog.ts';

it('is taken back once no other job is about it', async () => {
  const { catalog } = await openScratch();
  const dependencies = { catalog, clock: systemClock, owner: await currentOwner(catalog) };
  const run = (work: (job: JobContext) => Promise<void>) =>
    runJob(dependencies, { jobType: 'backup', operation: 'backup of web' }, {}, work);
  const enter = (job: JobContext, id: string) =>
    job.setContext((unit) => findOrMakeVmContext(unit, { context_id: id, vm_name: 'web', created_at: AT, updated_at: AT }));
  await run(async (first) => {
    const made = await enter(first, 'vm-1');
    await run(async (second) => {
      expect(await enter(second, 'vm-2')).toEqual(made);
      await removeUnusedVmContext(catalog, made.context_id, first.jobId);
      expect(await findVmContext(catalog, 'web')).toEqual(made);
    });
    await removeUnusedVmContext(catalog, made.context_id, first.jobId);
    expect(await findVmContext(catalog, 'web')).toBeUndefined();
  });
});
