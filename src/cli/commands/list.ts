// `list`: the backups there are.

import { Command, Option } from 'commander';
import { cliContext, printAnswer } from '../cli-context.ts';
import { parseCount } from '../option-values.ts';
import { renderBackups } from '../render-backups.ts';
import { withApp } from '../with-app.ts';

interface ListOptions {
  readonly vm?: string;
  readonly repo?: string;
  readonly status?: string;
  readonly limit?: number;
  readonly after?: string;
}

export function listCommand(): Command {
  return new Command('list')
    .description('all backups')
    .option('--vm <name>', 'only of this VM (name or id)')
    .option('--repo <name>', 'only in this repository')
    .addOption(new Option('--status <status>', 'only with this status').choices(['pending', 'running', 'completed', 'failed', 'cancelled']))
    .addOption(new Option('--limit <n>', 'at most N, the newest first').argParser(parseCount))
    .option('--after <backup>', 'go on behind this one: the last of the page before')
    .action(async (options: ListOptions, command: Command) => {
      const context = cliContext(command);
      const filter = {
        ...(options.vm !== undefined && { vm: options.vm }),
        ...(options.repo !== undefined && { repository: options.repo }),
        ...(options.status !== undefined && { status: options.status }),
        ...(options.limit !== undefined && { limit: options.limit }),
        ...(options.after !== undefined && { after: options.after }),
      };
      const backups = await withApp(context, (app) => app.listBackups(filter));
      printAnswer(context, { backups }, () => (backups.length === 0 ? 'no backups\n' : renderBackups(backups)));
    });
}
