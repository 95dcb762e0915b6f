// `jobs log`: the lines of a job, also while it runs.

import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import type { App, JobEventView } from '../../../app-interface.ts';
import { cliContext, printAnswer } from '../../cli-context.ts';
import { openInterruption } from '../../interruption.ts';
import { safeText } from '../../safe-text.ts';
import { formatTime } from '../../time-text.ts';
import { withApp } from '../../with-app.ts';

/** Lines read at once: a log may have millions. */
const PAGE = 1000;
const LOOK_AGAIN_MS = 500;

export function logCommand(): Command {
  return new Command('log')
    .description('what a job logged')
    .argument('<id>', 'id of the job')
    .option('--follow', 'go on until the job has ended, or until interrupted; with --json the answer comes then')
    .action(async (id: string, options: { readonly follow?: boolean }, command: Command) => {
      const context = cliContext(command);
      await withApp(context, async (app) => {
        const { job } = await app.jobs.show(id);
        const events: JobEventView[] = [];
        let lines = 0;
        await readLog(app, job.job_id, options.follow ?? false, (page) => {
          lines += page.length;
          if (context.json) events.push(...page);
          else process.stdout.write(page.map(renderEvent).join(''));
        });
        if (context.json) printAnswer(context, { job_id: job.job_id, events }, () => '');
        else if (lines === 0) process.stdout.write('nothing was logged\n');
      });
    });
}

async function readLog(app: App, id: string, follow: boolean, show: (page: readonly JobEventView[]) => void): Promise<void> {
  const interruption = openInterruption(() => undefined);
  try {
    let after: JobEventView | undefined;
    while (!interruption.signal.aborted) {
      // Asked before the lines are read: those that the job wrote last are there when it has ended.
      const { job } = await app.jobs.show(id);
      const page = await app.jobs.events(id, { limit: PAGE, ...(after && { after }) });
      show(page);
      after = page.at(-1) ?? after;
      if (page.length === PAGE) continue;
      if (!follow || (job.status !== 'running' && job.status !== 'pending')) return;
      await sleep(LOOK_AGAIN_MS, undefined, { signal: interruption.signal }).catch(() => undefined); // woken by Ctrl-C: the loop ends
    }
  } finally {
    interruption.close();
  }
}

function renderEvent(event: JobEventView): string {
  const attrs = event.attrs && Object.keys(event.attrs).length > 0 ? ` ${JSON.stringify(event.attrs)}` : '';
  return `${formatTime(event.ts)}  ${event.level.padEnd(5)}  ${safeText(event.message + attrs)}\n`;
}
