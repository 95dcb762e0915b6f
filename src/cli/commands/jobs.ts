// `jobs`: what was done, when, by which steps, and how it ended; and the wish that a running job ends.

import { Command, Option } from 'commander';
import type { JobDetails, JobStepView, JobView } from '../../app-interface.ts';
import { cliContext, printAnswer, printDone } from '../cli-context.ts';
import { parseCount } from '../option-values.ts';
import { renderFields, renderTable } from '../table.ts';
import { formatTime } from '../time-text.ts';
import { withApp } from '../with-app.ts';
import { logCommand } from './jobs/log.ts';

const PAGE = 100;

interface ListOptions {
  readonly status?: string;
  readonly limit?: number;
  readonly before?: string;
}

export function jobsCommand(): Command {
  return new Command('jobs')
    .description('the job log, the newest job first')
    .addOption(new Option('--status <status>', 'only with this status').choices(['pending', 'running', 'completed', 'failed', 'cancelled']))
    .addOption(new Option('--limit <n>', 'at most this many').argParser(parseCount).default(PAGE))
    .option('--before <id>', 'only jobs older than this one: the next page')
    .action(async (options: ListOptions, command: Command) => {
      const context = cliContext(command);
      const { limit = PAGE, ...filter } = options;
      const page = await withApp(context, (app) => app.jobs.list({ ...filter, limit }));
      printAnswer(context, page, () => (page.jobs.length === 0 ? 'no jobs\n' : renderJobs(page.jobs)));
      if (page.next !== null && !context.quiet) process.stderr.write(`there are older ones: chainkeep jobs --before ${page.next}\n`);
    })
    .addCommand(showCommand())
    .addCommand(logCommand())
    .addCommand(cancelCommand())
    .addCommand(retentionCommand());
}

function renderJobs(jobs: readonly JobView[]): string {
  return renderTable(
    [
      { title: 'JOB', cell: (row) => row.job_id },
      { title: 'TYPE', cell: (row) => row.job_type },
      { title: 'STATUS', cell: (row) => row.status },
      { title: 'DONE', cell: (row) => `${Math.floor(row.percent_complete)} %`, side: 'right' },
      { title: 'CREATED', cell: (row) => formatTime(row.created_at) },
      { title: 'COMPLETED', cell: (row) => formatTime(row.completed_at) },
      { title: 'OPERATION', cell: (row) => row.operation },
    ],
    jobs,
  );
}

function showCommand(): Command {
  return new Command('show')
    .description('one job, its steps, the jobs inside of it, and who runs it')
    .argument('<id>', 'id of the job')
    .action(async (id: string, _options: object, command: Command) => {
      const context = cliContext(command);
      const details = await withApp(context, (app) => app.jobs.show(id));
      const { job, steps, children } = details;
      printAnswer(context, details, () => renderJob(job) + renderSteps(steps) + (children.length > 0 ? `\n${renderJobs(children)}` : ''));
    });
}

function renderJob(job: JobDetails['job']): string {
  return renderFields({
    job: job.job_id,
    type: job.job_type,
    operation: job.operation,
    status: job.status,
    done: `${Math.floor(job.percent_complete)} %`,
    ...(job.error_message !== null && { error: job.error_message }),
    created: formatTime(job.created_at),
    started: formatTime(job.started_at),
    completed: formatTime(job.completed_at),
    ...(job.parent_job_id !== null && { 'part of': job.parent_job_id }),
    ...(job.owner !== null && { process: `${job.owner.pid} on ${job.owner.hostname}` }),
    ...(job.heartbeat_at !== null && { 'heard of': formatTime(job.heartbeat_at) }),
    ...(job.cancel_requested_at !== null && { 'asked to stop': formatTime(job.cancel_requested_at) }),
  });
}

function renderSteps(steps: readonly JobStepView[]): string {
  if (steps.length === 0) return '';
  const table = renderTable(
    [
      { title: 'STEP', cell: (row) => String(row.seq), side: 'right' },
      { title: 'NAME', cell: (row) => row.name },
      { title: 'STATUS', cell: (row) => row.status },
      { title: 'STARTED', cell: (row) => formatTime(row.started_at) },
      { title: 'COMPLETED', cell: (row) => formatTime(row.completed_at) },
      { title: 'ERROR', cell: (row) => row.error_message ?? '' },
    ],
    steps,
  );
  return `\n${table}`;
}

function cancelCommand(): Command {
  return new Command('cancel')
    .description('ask the process that runs a job to stop it; it ends cleanly, within seconds')
    .argument('<id>', 'id of the job')
    .action(async (id: string, _options: object, command: Command) => {
      const context = cliContext(command);
      const answer = await withApp(context, (app) => app.jobs.cancel(id));
      const words = answer.status === 'cancelled' ? 'is cancelled' : 'was asked to stop';
      printDone(context, answer, () => `job ${answer.job_id} ${words}\n`);
    });
}

function retentionCommand(): Command {
  return new Command('retention')
    .description('how long ended jobs are kept; failed ones keep their row, without lines, for a year at least')
    .addOption(new Option('--days <n>', 'from now on this many days').argParser(parseCount))
    .action(async (options: { readonly days?: number }, command: Command) => {
      const context = cliContext(command);
      const answer = await withApp(context, (app) => app.jobs.retention(options.days));
      printAnswer(context, answer, () => `ended jobs are kept for ${answer.retention_days} days\n`);
    });
}
