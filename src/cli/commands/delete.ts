// `delete`: remove one backup that no other one needs.

import { Command } from 'commander';
import { cliContext, printAnswer, printDone } from '../cli-context.ts';
import { formatSize } from '../size-text.ts';
import { withJob } from '../with-app.ts';

export function deleteCommand(): Command {
  return new Command('delete')
    .description('delete one backup; refused while others depend on it (that is the work of prune)')
    .argument('<backup>', 'an id, an unambiguous beginning of one, or "latest" with --vm')
    .option('--vm <name>', 'the VM that "latest" means')
    .option('--dry-run', 'only say what would be done')
    .action(async (backup: string, options: { readonly vm?: string; readonly dryRun?: boolean }, command: Command) => {
      const context = cliContext(command);
      const dryRun = options.dryRun ?? false;
      const scope = { ...(options.vm !== undefined && { vm: options.vm }), dry_run: dryRun };
      const outcome = await withJob(context, (app, watch) => app.deleteBackup(backup, scope, watch));
      const freed = formatSize(outcome.freed_bytes);
      if (dryRun)
        printAnswer(context, { success: true, dry_run: true, ...outcome }, () => `would delete ${outcome.backup_id} and free ${freed}\n`);
      else printDone(context, outcome, () => `${outcome.backup_id} is deleted, ${freed} freed\n`);
    });
}
