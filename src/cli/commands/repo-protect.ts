// `repo protect`: everything that is locked or held in a repository is protected as it should be.

import { Command } from 'commander';
import type { ProtectOutcome } from '../../app-interface.ts';
import { cliContext, exitAsFailed, printAnswer } from '../cli-context.ts';
import { renderFields } from '../table.ts';
import { withJob } from '../with-app.ts';

export function protectCommand(): Command {
  return new Command('protect')
    .description('lock what is due, protect again what somebody freed, free what is over; runs with backups once a day')
    .argument('<name>', 'its name or id')
    .action(async (name: string, _options: object, command: Command) => {
      const context = cliContext(command);
      const outcome = await withJob(context, (app, watch) => app.protectRepository(name, watch));
      // What was taken off is protected again, and still something that somebody must look into.
      const success = outcome.failures.length === 0 && outcome.restored.length === 0;
      printAnswer(context, { success, ...outcome }, () => (context.quiet ? '' : renderOutcome(outcome)));
      if (!success) exitAsFailed();
    });
}

const WORTH = {
  enforced: 'by the store, against everybody',
  attribute: 'by us, and by the immutable attribute against everybody but root',
  mode: 'by us, and by mode bits against a mistake',
  dates: 'by the store, against those who may not lift locks there',
  none: 'by us alone: this store protects nothing',
} as const;

function renderOutcome(outcome: ProtectOutcome): string {
  const { retention, retention_mark: mark } = outcome;
  const worth = retention === 'advisory' ? (mark ?? 'dates') : retention;
  return renderFields({
    kept: WORTH[worth],
    disks: String(outcome.disks),
    ...(outcome.busy > 0 && { busy: `${outcome.busy} (another process writes there, and protects what it makes)` }),
    locked: String(outcome.locked),
    protected: String(outcome.protected),
    ...(outcome.restored.length > 0 && { 'ALARM: was taken off': outcome.restored.join(', ') }),
    released: String(outcome.released),
    ...(outcome.failures.length > 0 && { 'not protected': outcome.failures.map(({ message }) => message).join('; ') }),
  });
}
