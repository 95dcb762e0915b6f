// `database`: is the catalog sound, a copy of it, and a copy put back.

import { resolve } from 'node:path';
import { Command } from 'commander';
import type { DatabaseCheck, RestoredJobs } from '../../app-interface.ts';
import { cliContext, exitAsFailed, printAnswer, printDone } from '../cli-context.ts';
import { safeText } from '../safe-text.ts';
import { formatSize } from '../size-text.ts';
import { withApp, withJob, withWatch } from '../with-app.ts';

export function databaseCommand(): Command {
  return new Command('database')
    .description('the database: is it sound, copies of the embedded one')
    .addCommand(checkCommand())
    .addCommand(backupCommand())
    .addCommand(restoreCommand());
}

function checkCommand(): Command {
  return new Command('check')
    .description('is it sound in itself, and does it say what the repositories say? changes nothing')
    .action(async (_options: object, command: Command) => {
      const context = cliContext(command);
      const check = await withJob(context, (app, watch) => app.database.check(watch));
      const [first] = check.problems;
      const failure = first && { error: summary(check), error_code: first.code };
      printAnswer(context, { success: !first, ...failure, ...check }, () => {
        if (context.quiet && !first) return '';
        return check.problems.map(({ code, message }) => `${code}: ${safeText(message)}\n`).join('') + (first ? '' : `${summary(check)}\n`);
      });
      if (!first) return;
      process.stderr.write(`error: ${summary(check)}\n`);
      process.stderr.write(`advice: ${adviceFor(check)}\n`);
      exitAsFailed();
    });
}

function summary({ rows, backups, found }: DatabaseCheck): string {
  const looked = `${rows} rows, ${backups} backups in repositories`;
  return found === 0 ? `the database is sound (${looked})` : `${found} problem${found === 1 ? '' : 's'} in the database (${looked})`;
}

function adviceFor({ problems }: DatabaseCheck): string {
  if (problems.some(({ code }) => code === 'FILE_DAMAGED'))
    return 'restore a copy with: chainkeep database restore FILE; without one, put the file aside and register the repositories again';
  return 'what differs from a repository becomes right again with: chainkeep repo rescan NAME';
}

function backupCommand(): Command {
  return new Command('backup')
    .description('write a whole copy of the embedded database; others go on meanwhile')
    .argument('<file>', 'a new file')
    .action(async (file: string, _options: object, command: Command) => {
      const context = cliContext(command);
      const copy = await withJob(context, (app, watch) => app.database.backup(resolve(file), watch));
      printDone(context, copy, () => `${safeText(copy.file)}: ${formatSize(copy.size_bytes)}\n`);
    });
}

function restoreCommand(): Command {
  return new Command('restore')
    .description('put a copy in the place of the embedded database; nobody may use that, and it is kept beside under a dated name')
    .argument('<file>', 'made with "database backup"')
    .action(async (file: string, _options: object, command: Command) => {
      const context = cliContext(command);
      const { home, databaseUrl } = context;
      const restored = await withWatch(context, async (watch) => {
        const { restoreDatabase } = await import('../../app.ts');
        return restoreDatabase({ home, ...(databaseUrl !== undefined && { databaseUrl }) }, resolve(file), watch);
      });
      // Not to be interrupted by the first Ctrl-C any more: the copy is in its place, and this makes it tell the truth.
      const jobs = await withApp(context, (app) => app.database.settleRestored(restored, {}));
      const { file: from, replaced } = restored;
      printDone(context, { file: from, replaced, ...jobs }, () => describe(replaced, jobs));
    });
}

function describe(replaced: string | null, { settled }: RestoredJobs): string {
  const kept = replaced === null ? '' : `the replaced one is kept as ${safeText(replaced)}\n`;
  const jobs = settled.map(({ job_id, status, message }) => `job ${job_id}: ${status}, ${safeText(message)}\n`).join('');
  return `the database is restored\n${kept}${jobs}compare it with the repositories: chainkeep database check\n`;
}
