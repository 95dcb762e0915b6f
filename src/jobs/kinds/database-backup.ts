// The copy of the embedded database: whole, as of one moment, while everybody else goes on.
// It must not leave a file that is not a sound database, nor replace one that is there.

import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { DatabaseCopy, JobWatch } from '../../app-interface.ts';
import { checkStorage } from '../../catalog/check-database.ts';
import { copyDatabase, openDatabaseFile, removeDatabase } from '../../catalog/database-file.ts';
import { endRunningSteps } from '../../catalog/job-steps.ts';
import { changeOwnJob, endTrackedJob } from '../../catalog/job-tracking.ts';
import { isoTime, randomToken } from '../../plumbing/clock.ts';
import { ChainkeepError, systemCode, throwIfCancelled } from '../../plumbing/errors.ts';
import { publishFile } from '../../plumbing/publish-file.ts';
import type { JobContext } from '../job.ts';
import { runJob } from '../runner.ts';
import type { JobEnvironment } from './job-environment.ts';

/** `path`: of the database; `file`: absolute. Throws TARGET_EXISTS, TARGET_INVALID and INSUFFICIENT_STORAGE. */
export async function backupDatabase(environment: JobEnvironment, path: string, file: string, watch: JobWatch): Promise<DatabaseCopy> {
  if (existsSync(file)) throw exists(file);
  const spec = { jobType: 'database', operation: `copy of the database to ${file}`, metadata: { file } };
  const { jobId, result } = await runJob(environment, spec, watch, (job) => makeCopy(environment, path, file, job));
  return { job_id: jobId, file, size_bytes: result };
}

async function makeCopy(environment: JobEnvironment, path: string, file: string, job: JobContext): Promise<number> {
  const temporary = `${file}.tmp-${randomToken(8)}`;
  try {
    await job.step('copy', () =>
      copyDatabase(path, temporary, { signal: job.signal, onProgress: (done, total) => job.progress('database', done, total) }),
    );
    await job.step('check', () => finishCopy(environment, temporary, job));
    throwIfCancelled(job.signal);
    await publishFile(temporary, file);
    return (await stat(file)).size;
  } catch (error) {
    throw targetError(file, error);
  } finally {
    await removeDatabase(temporary);
  }
}

/** In the copy, the job that makes it must not run for ever: the copy is what it was to make. */
async function finishCopy({ clock, owner }: JobEnvironment, temporary: string, { jobId, signal }: JobContext): Promise<void> {
  const copy = await openDatabaseFile(temporary, clock, 1000);
  try {
    for await (const { message } of checkStorage(copy)) {
      throw new ChainkeepError('CATALOG_INVALID', `the copy of the database is not sound: ${message}`, {
        advice: 'see what else is damaged with: chainkeep database check',
      });
    }
    throwIfCancelled(signal);
    const now = isoTime(clock.now());
    await changeOwnJob(copy, jobId, owner, async (unit) => {
      await endRunningSteps(unit, jobId, { status: 'completed', completed_at: now });
      await endTrackedJob(unit, jobId, { status: 'completed', percent_complete: 100, completed_at: now });
    });
  } finally {
    await copy.close();
  }
}

function exists(file: string, cause?: unknown): ChainkeepError {
  return new ChainkeepError('TARGET_EXISTS', `${file} exists`, {
    advice: 'a copy of the database never replaces a file: give another name',
    context: { target: file },
    cause,
  });
}

/** What the file system says of the target. */
function targetError(file: string, error: unknown): unknown {
  const code = systemCode(error);
  if (error instanceof ChainkeepError || code === undefined) return error;
  if (code === 'EEXIST') return exists(file, error);
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new ChainkeepError('INSUFFICIENT_STORAGE', `there is no room for ${file}`, { advice: 'make room there', cause: error });
  }
  return new ChainkeepError('TARGET_INVALID', `${file} cannot be written: ${code}`, {
    advice: 'check that its folder exists and belongs to this user',
    context: { target: file },
    cause: error,
  });
}
