// Copies of the embedded database: whole while others write, private, and nothing when they are cancelled; and who has it open.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { copyDatabase, isUsedByNobody, openDatabaseFile, overwriteDatabase } from '../../src/catalog/database-file.ts';
import { insertTrackedJob, listTrackedJobs } from '../../src/catalog/job-tracking.ts';
import { insertLogEvents, listLogEvents } from '../../src/catalog/log-events.ts';
import { processesWithOpen } from '../../src/control/open-files.ts';
import { systemClock } from '../../src/plumbing/clock.ts';
import { AT, ON_MARIADB, openScratch, rawSql } from './scratch-catalog.ts';

const LOGGER = fileURLToPath(new URL('../jobs/log-process.ts', import.meta.url));

/** A database of a few megabytes. */
async function openFilled() {
  const { catalog, path } = await openScratch();
  await insertTrackedJob(catalog, { id: 'j', job_type: 'x', operation: 'x', created_at: AT });
  for (let batch = 0; batch < 40; batch += 1) {
    const event = { level: 'info', message: 'x'.repeat(1000), attrs: null, stepId: null, ts: AT, since: 0 } as const;
    await insertLogEvents(
      catalog,
      'j',
      Array.from({ length: 100 }, () => event),
    );
  }
  return { catalog, path, copy: join(dirname(path), 'copy.db') };
}

describe.skipIf(ON_MARIADB)('a copy', () => {
  it('is whole and comes to its end while another process writes without rest', async () => {
    const { path, copy } = await openFilled();
    const child = spawn(process.execPath, [LOGGER, `sqlite:${path}`, 'steps'], { stdio: ['ignore', 'pipe', 'inherit'] });
    onTestFinished(() => void child.kill('SIGKILL'));
    await once(child.stdout, 'data');
    let looks = 0;
    await copyDatabase(path, copy, { onProgress: () => (looks += 1) });
    child.kill('SIGKILL');
    expect(looks).toBeGreaterThan(3);
    expect(statSync(copy).mode & 0o777).toBe(0o600);
    expect(rawSql(copy, 'pragma integrity_check')).toEqual([{ integrity_check: 'ok' }]);
    expect(rawSql(copy, 'pragma foreign_key_check')).toEqual([]);
    const opened = await openDatabaseFile(copy, systemClock, 100);
    onTestFinished(() => opened.close());
    expect(await listLogEvents(opened, 'j')).toHaveLength(4000);
    const [job] = await listTrackedJobs(opened, { statuses: ['running'] });
    expect(job?.operation).toBe('load');
  });

  it('that is cancelled leaves nothing', async () => {
    const { path, copy } = await openFilled();
    const controller = new AbortController();
    const work = copyDatabase(path, copy, { signal: controller.signal, onProgress: () => controller.abort() });
    await expect(work).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(readdirSync(dirname(copy)).filter((name) => name.startsWith('copy'))).toEqual([]);
  });

  it('never takes the name of a file that is there', async () => {
    const { path, copy } = await openFilled();
    await copyDatabase(path, copy, {});
    await expect(copyDatabase(path, copy, {})).rejects.toMatchObject({ code: 'EEXIST' });
    expect(rawSql(copy, 'pragma integrity_check')).toEqual([{ integrity_check: 'ok' }]);
  });

  it('is seen by whoever has the database open as soon as it is in its place, whole', async () => {
    const { catalog, path, copy } = await openFilled();
    await copyDatabase(path, copy, {});
    await insertTrackedJob(catalog, { id: 'later', job_type: 'x', operation: 'x', created_at: AT });
    await overwriteDatabase(path, copy);
    expect((await listTrackedJobs(catalog, {})).map((job) => job.id)).toEqual(['j']);
  });
});

describe.skipIf(ON_MARIADB)('who has it open', () => {
  it('is known, also without a job', async () => {
    const { catalog, path } = await openFilled();
    expect(await isUsedByNobody(path, 0)).toBe(false);
    const child = spawn(process.execPath, [LOGGER, `sqlite:${path}`, 'turns'], { stdio: ['ignore', 'pipe', 'inherit'] });
    onTestFinished(() => void child.kill('SIGKILL'));
    await once(child.stdout, 'data');
    expect(processesWithOpen(path)).toEqual([{ pid: child.pid, command: expect.stringContaining('log-process') }]);
    child.kill('SIGKILL');
    await once(child, 'close');
    await catalog.all({ sql: 'select 1', parameters: [] });
    expect(processesWithOpen(path)).toEqual([]);
  });
});
