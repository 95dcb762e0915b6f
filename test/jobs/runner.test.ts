// A job from its beginning to each of its ends, as the job log tells it.

import { setTimeout as wait } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { JobWatch } from '../../src/app-interface.ts';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { requestCancel } from '../../src/catalog/job-heartbeats.ts';
import { listJobSteps } from '../../src/catalog/job-steps.ts';
import { listTrackedJobs, resolveTrackedJob } from '../../src/catalog/job-tracking.ts';
import { listLogEvents } from '../../src/catalog/log-events.ts';
import { currentOwner } from '../../src/control/owner.ts';
import type { JobContext } from '../../src/jobs/job.ts';
import { runJob } from '../../src/jobs/runner.ts';
import { systemClock } from '../../src/plumbing/clock.ts';
import { ChainkeepError, throwIfCancelled } from '../../src/plumbing/errors.ts';
import { openScratch } from '../catalog/scratch-catalog.ts';

async function openRunner() {
  const { catalog, path } = await openScratch();
  const dependencies = { catalog, clock: systemClock, owner: await currentOwner(catalog) };
  const run = <T>(work: (context: JobContext) => Promise<T>, watch: JobWatch = {}) =>
    runJob(dependencies, { jobType: 'backup', operation: 'backup of web', contextId: 'vm-1', metadata: { a: 1 } }, watch, work);
  return { catalog, path, dependencies, run };
}

async function onlyJob(catalog: Catalog) {
  const [job] = await listTrackedJobs(catalog, {});
  if (!job) throw new Error('no job');
  return { job, steps: await listJobSteps(catalog, job.id), events: await listLogEvents(catalog, job.id) };
}

describe('a job that ends well', () => {
  it('is running while it runs, and completed with all its steps, lines and metadata', async () => {
    const { catalog, run, dependencies } = await openRunner();
    const notices: string[] = [];
    const work = async (context: JobContext) => {
      expect((await onlyJob(catalog)).job).toMatchObject({
        id: context.jobId,
        status: 'running',
        owner: dependencies.owner,
        context_id: 'vm-1',
      });
      context.logger.log('info', 'begin');
      const answer = await context.step('plan', async () => {
        expect((await onlyJob(catalog)).steps).toMatchObject([{ seq: 1, name: 'plan', status: 'running', completed_at: null }]);
        context.logger.log('warn', 'falling back', { why: 'slow', size: 2n ** 60n, at: { error: new Error('inner') } });
        return context.step('read', async () => 42);
      });
      await context.setMetadata({ backup_ids: ['b1'] });
      await context.step('write', async () => undefined);
      return answer;
    };
    const { jobId, result } = await run(work, { onNotice: (message) => notices.push(message) });
    expect(result).toBe(42);
    const { job, steps, events } = await onlyJob(catalog);
    expect(job).toMatchObject({
      id: jobId,
      status: 'completed',
      percent_complete: 100,
      error_message: null,
      metadata: { a: 1, backup_ids: ['b1'] },
    });
    expect(job.completed_at).not.toBeNull();
    expect(steps.map((step) => [step.seq, step.name, step.status])).toEqual([
      [1, 'plan', 'completed'],
      [2, 'read', 'completed'],
      [3, 'write', 'completed'],
    ]);
    expect(events.map((event) => [event.level, event.message, event.step_id, event.attrs])).toEqual([
      ['info', 'begin', null, null],
      ['warn', 'falling back', steps[0]?.id, { why: 'slow', size: '1152921504606846976', at: { error: 'inner' } }],
    ]);
    expect(notices).toEqual(['falling back']);
  });

  it('has microseconds on its lines, in the order in which they were logged, also from steps at the same time', async () => {
    const { catalog, run } = await openRunner();
    await run(async ({ logger, step }) => {
      const branch = (name: string) =>
        step(name, async () => {
          for (let line = 0; line < 50; line += 1) {
            logger.log('debug', `${name} ${line}`);
            if (line % 10 === 0) await wait(1);
          }
        });
      await Promise.all([branch('left'), branch('right')]);
    });
    const { steps, events } = await onlyJob(catalog);
    expect(events).toHaveLength(100);
    expect(new Set(events.map((event) => event.ts)).size).toBe(100);
    for (const event of events) expect(event.ts).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
    expect(events.map((event) => event.id)).toEqual(events.map((event) => event.id).toSorted((a, b) => a - b));
    for (const side of ['left', 'right']) {
      const own = events.filter((event) => event.message.startsWith(side));
      expect(own.map((event) => event.message)).toEqual(Array.from({ length: 50 }, (_, line) => `${side} ${line}`));
      expect(new Set(own.map((event) => event.step_id))).toEqual(new Set([steps.find((step) => step.name === side)?.id]));
    }
  });

  it('writes its percentage at most twice a second and shows all of it to the watcher', async () => {
    const { catalog, run } = await openRunner();
    const shown: number[] = [];
    const stored = new Set<number>();
    const began = performance.now();
    await run(
      async ({ progress }) => {
        for (let done = 0; done <= 1000; done += 1) {
          progress('copy', done, 1000);
          if (done % 100 !== 0) continue;
          await wait(60);
          stored.add((await onlyJob(catalog)).job.percent_complete);
        }
      },
      { onProgress: ({ done }) => shown.push(done) },
    );
    const seconds = (performance.now() - began) / 1000;
    expect(shown).toHaveLength(1001);
    expect(stored.size).toBeGreaterThan(1);
    // The 0 of the beginning, the first, and two each second.
    expect(stored.size).toBeLessThanOrEqual(2 + Math.ceil(seconds * 2));
    expect((await onlyJob(catalog)).job.percent_complete).toBe(100);
  });
});

describe('a job that ends badly', () => {
  it('failed: message and code are in the log, the error comes back, open steps are failed', async () => {
    const { catalog, run } = await openRunner();
    const error = new ChainkeepError('SOURCE_CHANGED', 'the source shrank', { context: { offset: 5 } });
    const work = run(async ({ step }) => {
      void step('never ends', () => new Promise(() => undefined));
      await step('read', async () => {
        throw error;
      });
    });
    await expect(work).rejects.toBe(error);
    const { job, steps, events } = await onlyJob(catalog);
    expect(job).toMatchObject({ status: 'failed', error_message: 'the source shrank', metadata: { a: 1, error_code: 'SOURCE_CHANGED' } });
    expect(steps.map((step) => [step.name, step.status, step.error_message])).toEqual([
      ['never ends', 'failed', 'the source shrank'],
      ['read', 'failed', 'the source shrank'],
    ]);
    expect(events).toMatchObject([{ level: 'error', message: 'the source shrank', attrs: { code: 'SOURCE_CHANGED', offset: 5 } }]);
  });

  it('a bug: INTERNAL, with the stack', async () => {
    const { catalog, run } = await openRunner();
    await expect(run(async () => JSON.parse('{'))).rejects.toThrow(SyntaxError);
    const { job, events } = await onlyJob(catalog);
    expect(job).toMatchObject({ status: 'failed', metadata: { error_code: 'INTERNAL' } });
    expect(events[0]?.attrs?.stack).toContain('runner.test.ts');
  });

  it('cancelled by the caller, whether we notice it or Node does', async () => {
    const { catalog, run } = await openRunner();
    const controller = new AbortController();
    const ours = run(async ({ signal, step }) => {
      controller.abort();
      await step('copy', async () => throwIfCancelled(signal));
    }, controller);
    await expect(ours).rejects.toMatchObject({ code: 'CANCELLED' });
    const nodes = run(({ signal }) => wait(10_000, undefined, { signal }), controller);
    await expect(nodes).rejects.toMatchObject({ code: 'CANCELLED' });
    const jobs = await listTrackedJobs(catalog, { statuses: ['cancelled'] });
    expect(jobs).toHaveLength(2);
    for (const job of jobs) expect(job).toMatchObject({ error_message: 'cancelled', canceled_at: job.completed_at });
    expect(await listTrackedJobs(catalog, { statuses: ['failed', 'running'] })).toEqual([]);
  });

  it('the error of the job comes back even when the job log cannot be written, and that is said', async () => {
    const { catalog, run } = await openRunner();
    const notices: string[] = [];
    const work = run(
      async () => {
        await catalog.run({ sql: 'drop table log_events', parameters: [] });
        await catalog.run({ sql: 'drop table job_steps', parameters: [] });
        throw new RangeError('the real reason');
      },
      { onNotice: (message) => notices.push(message) },
    );
    await expect(work).rejects.toThrow('the real reason');
    expect(notices).toHaveLength(3); // the first line that was refused, what is lost of them, the end of the job
    for (const notice of notices) expect(notice).toContain('is incomplete');
  });

  it('a line that cannot be written does not fail the job', async () => {
    const { catalog, run } = await openRunner();
    const notices: string[] = [];
    const { result } = await run(
      async ({ logger }) => {
        await catalog.run({ sql: 'drop table log_events', parameters: [] });
        logger.log('info', 'lost');
        return 'done';
      },
      { onNotice: (message) => notices.push(message) },
    );
    expect(result).toBe('done');
    expect(notices).toEqual([expect.stringContaining('is incomplete'), expect.stringContaining('1 of its lines could not be written')]);
  });
});

describe('a job inside of a job', () => {
  it('names its parent and has an end of its own', async () => {
    const { catalog, run } = await openRunner();
    const { jobId, result } = await run(async (job) => {
      const child = await job.child({ jobType: 'verify', operation: 'verify of web' }, async (inner) => {
        inner.logger.log('info', 'inside');
        return 7;
      });
      await expect(
        job.child({ jobType: 'copy', operation: 'copy of web' }, async () => {
          throw new ChainkeepError('SOURCE_CHANGED', 'it shrank');
        }),
      ).rejects.toMatchObject({ code: 'SOURCE_CHANGED' });
      return child;
    });
    expect(result.result).toBe(7);
    const children = await listTrackedJobs(catalog, { parentJobId: jobId });
    expect(children.map((job) => [job.job_type, job.status]).toSorted()).toEqual([
      ['copy', 'failed'],
      ['verify', 'completed'],
    ]);
    expect((await listLogEvents(catalog, result.jobId)).map((event) => event.message)).toEqual(['inside']);
    expect(await listTrackedJobs(catalog, { statuses: ['running'] })).toEqual([]);
  });

  it('is cancelled with its parent', async () => {
    const { catalog, run } = await openRunner();
    const work = run(async (job) => {
      await requestCancel(catalog, [job.jobId], 'cancelled by a test');
      await job.child({ jobType: 'copy', operation: 'x' }, ({ signal }) => wait(20_000, undefined, { signal }));
    });
    await expect(work).rejects.toMatchObject({ code: 'CANCELLED', message: 'cancelled by a test' });
    const jobs = await listTrackedJobs(catalog, {});
    expect(jobs.map((job) => [job.status, job.error_message])).toEqual([
      ['cancelled', 'cancelled by a test'],
      ['cancelled', 'cancelled by a test'],
    ]);
  });
});

describe('a job is found', () => {
  it('by its id or the beginning of one', async () => {
    const { catalog, run } = await openRunner();
    const { jobId } = await run(async () => undefined);
    expect((await resolveTrackedJob(catalog, jobId.slice(0, 12))).id).toBe(jobId);
    await run(async () => undefined);
    expect((await resolveTrackedJob(catalog, jobId)).id).toBe(jobId);
    for (const wrong of ['', 'x', jobId.slice(0, 8)])
      await expect(resolveTrackedJob(catalog, wrong)).rejects.toMatchObject({ code: 'JOB_NOT_FOUND' });
  });
});
