// `jobs`: what was done, when, by which steps, and how it ended.

import { Command, Option } from 'commander';
import type { JobEventView, JobStepView, JobView } from '../../app-interface.ts';
import { cliContext, printAnswer } from '../cli-context.ts';
import { safeText } from '../safe-text.ts';
import { renderFields, renderTable } from '../table.ts';
import { formatTime } from '../time-text.ts';
import { withApp } from '../with-app.ts';

export function jobsCommand(): Command {
  return new Command('jobs')
    .description('the job log')
    .addOption(new Option('--status <status>', 'only with this status').choices(['pending', 'running', 'completed', 'failed', 'cancelled']))
    .action(async (options: { readonly status?: string }, command: Command) => {
      const context = cliContext(command);
      const jobs = await withApp(context, (app) => app.listJobs({ ...(options.status !== undefined && { status: options.status }) }));
      printAnswer(context, { jobs }, () => (jobs.length === 0 ? 'no jobs\n' : renderJobs(jobs)));
    })
    .addCommand(showCommand())
    .addCommand(logCommand());
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
    .description('one job and its steps')
    .argument('<id>', 'id of the job')
    .action(async (id: string, _options: object, command: Command) => {
      const context = cliContext(command);
      const { job, steps } = await withApp(context, (app) => app.showJob(id));
      printAnswer(context, { job, steps }, () => renderJob(job) + renderSteps(steps));
    });
}

function renderJob(job: JobView): string {
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

function logCommand(): Command {
  return new Command('log')
    .description('what a job logged')
    .argument('<id>', 'id of the job')
    .action(async (id: string, _options: object, command: Command) => {
      const context = cliContext(command);
      const events = await withApp(context, (app) => app.jobEvents(id));
      printAnswer(context, { job_id: id, events }, () => (events.length === 0 ? 'nothing was logged\n' : events.map(renderEvent).join('')));
    });
}

function renderEvent(event: JobEventView): string {
  const attrs = event.attrs && Object.keys(event.attrs).length > 0 ? ` ${JSON.stringify(event.attrs)}` : '';
  return `${formatTime(event.ts)}  ${event.level.padEnd(5)}  ${safeText(event.message + attrs)}\n`;
}
