// The job log as the App shows it: listings, details, the wish to cancel, and how long ended jobs are kept.
// It must not run a job.

import type { JobDetails, JobLog, JobPage } from './app-interface.ts';
import { jobEventView, jobStepView, jobView } from './app-views.ts';
import type { Catalog } from './catalog/catalog.ts';
import { findHeartbeat, requestCancel } from './catalog/job-heartbeats.ts';
import { findJobRetention, JOB_RETENTION_DAYS, setJobRetention } from './catalog/job-retention.ts';
import { listJobSteps } from './catalog/job-steps.ts';
import { cancelPendingJob, type JobStatus, listTrackedJobs, resolveTrackedJob, type TrackedJob } from './catalog/job-tracking.ts';
import { listLogEvents } from './catalog/log-events.ts';
import { ChainkeepError, isChainkeepError } from './plumbing/errors.ts';

const STATUSES: readonly JobStatus[] = ['pending', 'running', 'completed', 'failed', 'cancelled'];
const LONGEST_RETENTION_DAYS = 36_500;

export function openJobLog(catalog: Catalog): JobLog {
  return {
    list: (filter) => listJobs(catalog, filter),
    show: (id) => showJob(catalog, id),
    events: async (id, page) => {
      const { id: jobId } = await resolveTrackedJob(catalog, id);
      const after = page?.after && { ts: page.after.ts, id: page.after.event_id };
      return (await listLogEvents(catalog, jobId, page && { limit: page.limit, ...(after && { after }) })).map(jobEventView);
    },
    cancel: (id) => cancelJob(catalog, id),
    retention: (days) => retention(catalog, days),
  };
}

async function listJobs(catalog: Catalog, filter: Parameters<JobLog['list']>[0]): Promise<JobPage> {
  const { status, limit } = filter;
  const before = filter.before === undefined ? undefined : await resolveTrackedJob(catalog, filter.before);
  const jobs = await listTrackedJobs(catalog, {
    limit: limit + 1,
    ...(status !== undefined && { statuses: [statusOf(status)] }),
    ...(before && { before }),
  });
  const shown = jobs.slice(0, limit);
  return { jobs: shown.map(jobView), next: jobs.length > limit ? (shown.at(-1)?.id ?? null) : null };
}

async function showJob(catalog: Catalog, id: string): Promise<JobDetails> {
  const job = await resolveTrackedJob(catalog, id);
  const heartbeat = await findHeartbeat(catalog, job.id);
  return {
    job: {
      ...jobView(job),
      context_id: job.context_id,
      owner: job.owner && { hostname: job.owner.hostname, pid: job.owner.pid },
      heartbeat_at: heartbeat?.beat_at ?? null,
      cancel_requested_at: heartbeat?.cancel_requested_at ?? null,
    },
    steps: (await listJobSteps(catalog, job.id)).map(jobStepView),
    children: (await listTrackedJobs(catalog, { parentJobId: job.id })).map(jobView).toReversed(),
  };
}

async function cancelJob(catalog: Catalog, id: string): ReturnType<JobLog['cancel']> {
  const job = await resolveTrackedJob(catalog, id);
  if (job.owner === null && (await cancelPendingJob(catalog, job.id))) return { job_id: job.id, status: 'cancelled' };
  if (job.status !== 'running' && job.status !== 'pending') throw ended(job);
  const family = [job, ...(await unendedChildren(catalog, job.id))];
  const ids = family.map((one) => one.id);
  await requestCancel(catalog, ids, 'cancelled with: chainkeep jobs cancel');
  return { job_id: job.id, status: 'cancelling' };
}

async function unendedChildren(catalog: Catalog, id: string): Promise<readonly TrackedJob[]> {
  const children = await listTrackedJobs(catalog, { parentJobId: id, statuses: ['pending', 'running'] });
  const theirs = await Promise.all(children.map((child) => unendedChildren(catalog, child.id)));
  return [...children, ...theirs.flat()];
}

function ended({ id, status }: TrackedJob): ChainkeepError {
  return new ChainkeepError('JOB_ENDED', `job ${id} is ${status}: there is nothing to cancel`, {
    advice: 'see what runs with: chainkeep jobs --status running',
    context: { job_id: id, status },
  });
}

async function retention(catalog: Catalog, days: number | undefined): ReturnType<JobLog['retention']> {
  if (days === undefined) return { retention_days: (await findJobRetention(catalog))?.days ?? JOB_RETENTION_DAYS };
  if (!Number.isSafeInteger(days) || days < 1 || days > LONGEST_RETENTION_DAYS) {
    throw new ChainkeepError('CONFIG_INVALID', `${days} is no number of days`, { advice: `give one from 1 to ${LONGEST_RETENTION_DAYS}` });
  }
  await setJobRetention(catalog, { days });
  return { retention_days: days };
}

/** Once a day, by whoever starts first; a look at one setting otherwise. */
export async function removeOldJobsWhenDue(catalog: Catalog): Promise<void> {
  try {
    const setting = await findJobRetention(catalog);
    if (setting && !setting.isDue) return;
    const { sweepJobLog } = await import('./jobs/sweep-job-log.ts');
    await sweepJobLog(catalog);
  } catch (error) {
    // Another process is writing at length: the next start has its turn, and this command has other work.
    if (!isChainkeepError(error, 'CATALOG_FAILED') || !error.retryable) throw error;
  }
}

function statusOf(text: string): JobStatus {
  const found = STATUSES.find((status) => status === text);
  if (found !== undefined) return found;
  throw new ChainkeepError('CONFIG_INVALID', `"${text}" is no status`, { advice: `the statuses are ${STATUSES.join(', ')}` });
}
