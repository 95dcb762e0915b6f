// `hold`: reasons why a backup may not be deleted.

import { Command } from 'commander';
import type { ListedHold } from '../../app-interface.ts';
import { cliContext, printAnswer, printDone } from '../cli-context.ts';
import { safeText } from '../safe-text.ts';
import { renderTable } from '../table.ts';
import { formatTime } from '../time-text.ts';
import { withApp, withJob } from '../with-app.ts';

export function holdCommand(): Command {
  return new Command('hold')
    .description('reasons why a backup may not be deleted')
    .addCommand(addCommand())
    .addCommand(listCommand())
    .addCommand(liftCommand());
}

function addCommand(): Command {
  return new Command('add')
    .description('hold a backup, and with it all that it needs, until the hold is lifted')
    .argument('<backup>', 'an id, an unambiguous beginning of one, or "latest" with --vm')
    .requiredOption('--reason <text>', 'why: whoever wants to delete the backup reads it')
    .option('--vm <name>', 'the VM that "latest" means')
    .action(async (backup: string, { reason, vm }: { readonly reason: string; readonly vm?: string }, command: Command) => {
      const context = cliContext(command);
      const options = { reason, ...(vm !== undefined && { vm }) };
      const hold = await withJob(context, (app, watch) => app.holds.add(backup, options, watch));
      printDone(context, hold, () => `${hold.backup_id} is held until this hold is lifted: ${hold.hold_id}\n`);
    });
}

function listCommand(): Command {
  return new Command('list')
    .description('holds, the newest first')
    .option('--all', 'those that were lifted too')
    .option('--repo <name>', 'only in this repository')
    .action(async (options: { readonly all?: boolean; readonly repo?: string }, command: Command) => {
      const context = cliContext(command);
      const filter = { all: options.all ?? false, ...(options.repo !== undefined && { repository: options.repo }) };
      const holds = await withApp(context, (app) => app.holds.list(filter));
      printAnswer(context, { holds }, () => (holds.length === 0 ? 'no backup is held\n' : renderHolds(holds)));
    });
}

function renderHolds(holds: readonly ListedHold[]): string {
  return renderTable(
    [
      { title: 'HOLD', cell: (row) => row.hold_id },
      { title: 'BACKUP', cell: (row) => row.backup_id },
      { title: 'VM', cell: (row) => row.vm_name },
      { title: 'DISK', cell: (row) => String(row.disk_id), side: 'right' },
      { title: 'REPOSITORY', cell: (row) => row.repository },
      { title: 'SINCE', cell: (row) => formatTime(row.since) },
      { title: 'BY', cell: (row) => row.by },
      { title: 'LIFTED', cell: (row) => (row.lifted_at === null ? '' : `${formatTime(row.lifted_at)} ${row.lifted_by ?? ''}`) },
      { title: 'REASON', cell: (row) => row.reason },
    ],
    holds,
  );
}

function liftCommand(): Command {
  return new Command('lift')
    .description('end a hold; other holds of the backup, and its lock, stay')
    .argument('<id>', 'id of the hold, or an unambiguous beginning of one')
    .action(async (id: string, _options: object, command: Command) => {
      const context = cliContext(command);
      const hold = await withJob(context, (app, watch) => app.holds.lift(id, watch));
      printDone(context, hold, () => `hold ${hold.hold_id} of ${hold.backup_id} is lifted: ${safeText(hold.reason)}\n`);
    });
}
