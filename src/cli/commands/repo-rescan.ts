// `repo rescan`: the catalog is made what the files of a repository say.

import { Command } from 'commander';
import type { RescanOutcome } from '../../app-interface.ts';
import { cliContext, printAnswer } from '../cli-context.ts';
import { safeText } from '../safe-text.ts';
import { renderFields } from '../table.ts';
import { withJob } from '../with-app.ts';

export function rescanCommand(): Command {
  return new Command('rescan')
    .description('rebuild the catalog from its files')
    .argument('<name>', 'its name or id')
    .action(async (name: string, _options: object, command: Command) => {
      const context = cliContext(command);
      const outcome = await withJob(context, (app, watch) => app.rescanRepository(name, watch));
      printAnswer(context, { success: true, ...outcome }, () => (context.quiet ? '' : renderOutcome(outcome)));
    });
}

function renderOutcome(outcome: RescanOutcome): string {
  const names = { damaged: outcome.damaged_backups.map(({ backup_id }) => backup_id), missing: outcome.missing_backups };
  const numbers = renderFields({
    found: String(outcome.found),
    added: String(outcome.added),
    changed: String(outcome.changed),
    damaged: counted(outcome.damaged, [...new Set(names.damaged)]),
    foreign: outcome.foreign === 0 ? '0' : `${outcome.foreign} (the repository belongs to another installation, and is read-only here)`,
    missing: counted(outcome.missing, names.missing),
    'in progress': String(outcome.in_progress),
    'other files': counted(outcome.other_files, outcome.other_names),
  });
  const lost = outcome.added > 0 ? `not in a repository, and so not rebuilt: ${outcome.not_rebuilt.join(', ')}\n` : '';
  const bad = outcome.damaged + outcome.missing > 0;
  const advice = bad ? `what is damaged or missing is told by: chainkeep verify --repo ${safeText(outcome.repository)}\n` : '';
  return numbers + lost + advice;
}

const MOST_SHOWN = 5;

function counted(count: number, names: readonly string[]): string {
  if (count === 0) return '0';
  const shown = names.slice(0, MOST_SHOWN).join(', ');
  return `${count} (${shown}${count > MOST_SHOWN ? ', …' : ''})`;
}
