// `repo test`: the self-test of a store, registered or not.

import { Command, Option } from 'commander';
import type { SelfTestStep } from '../../app-interface.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { cliContext, exitAsFailed, printAnswer } from '../cli-context.ts';
import { hasRepositoryConfig, type RepositoryConfigOptions, readRepositoryConfig } from '../repository-config.ts';
import { safeText } from '../safe-text.ts';
import { renderTable } from '../table.ts';
import { formatDuration } from '../time-text.ts';
import { withApp } from '../with-app.ts';
import { REPOSITORY_TYPES, withConfigOptions } from './repo-config-options.ts';

interface TestOptions extends RepositoryConfigOptions {
  readonly type?: string;
  readonly retention?: boolean;
}

export function testCommand(): Command {
  return withConfigOptions(new Command('test'))
    .description('a self-test of its store, with files of our own; with --type and settings of a place that is not registered')
    .argument('[name]', 'its name or id')
    .addOption(new Option('--type <type>', 'kind of store').choices(REPOSITORY_TYPES))
    .option('--retention', 'try locking too, where a locked test file stays until its date (one minute)')
    .action(async (name: string | undefined, options: TestOptions, command: Command) => {
      const context = cliContext(command);
      const given = options.type !== undefined || hasRepositoryConfig(options);
      if ((name === undefined) !== given)
        throw new ChainkeepError('USAGE', 'give the name of a repository, or --type and the settings of a place');
      const retention = options.retention ?? false;
      const input = { type: options.type ?? 'local', ...readRepositoryConfig(options), retention };
      const steps = await withApp(context, (app) => (name === undefined ? app.testPlace(input) : app.testRepository(name, { retention })));
      const success = steps.every((step) => step.ok);
      printAnswer(context, { success, steps }, () => renderSteps(steps));
      if (!success) exitAsFailed();
    });
}

function renderSteps(steps: readonly SelfTestStep[]): string {
  const table = renderTable(
    [
      { title: 'STEP', cell: (row) => row.name },
      { title: 'RESULT', cell: resultOf },
      { title: 'TIME', cell: (row) => formatDuration(row.duration_ms), side: 'right' },
      { title: 'MESSAGE', cell: (row) => row.message },
    ],
    steps,
  );
  // A cell is cut where it is too long; what went wrong, and what to do, is said in full below.
  const notes = steps.filter(({ advice, ok, duration_ms }) => advice !== null || (!ok && duration_ms > 0));
  return (
    table +
    notes
      .map(({ name, message, advice }) => `${name}: ${safeText(message)}${advice === null ? '' : `\n  advice: ${safeText(advice)}`}\n`)
      .join('')
  );
}

function resultOf({ ok, warning, message }: SelfTestStep): string {
  if (ok) return warning ? 'WARNING' : 'ok';
  return message.startsWith('not tried') ? '-' : 'FAILED';
}
