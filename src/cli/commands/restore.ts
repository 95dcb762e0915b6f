// `restore`: give a restore point back as a file, on a device or to an export.

import { Command, Option } from 'commander';
import type { RestoreInput, RestoreOutcome } from '../../app-interface.ts';
import { cliContext, printAnswer, printDone } from '../cli-context.ts';
import { parseDiskPlace } from '../option-values.ts';
import { safeText } from '../safe-text.ts';
import { formatSize } from '../size-text.ts';
import { formatDuration } from '../time-text.ts';
import { withJob } from '../with-app.ts';

interface RestoreOptions {
  readonly vm?: string;
  readonly format: RestoreInput['format'];
  readonly force?: boolean;
  readonly dryRun?: boolean;
}

export function restoreCommand(): Command {
  return new Command('restore')
    .description('write a restore point to a new file, a device or an NBD export; every cluster is checked on the way')
    .argument('<backup>', 'an id, an unambiguous beginning of one, or "latest" with --vm')
    .argument('<target>', 'a new file, a block device, or an NBD export: nbd://, nbds://, nbd+unix://')
    .option('--vm <name>', 'the VM that "latest" means')
    .addOption(new Option('--format <format>', 'of the target').choices(['raw', 'qcow2']).default('raw'))
    .option('--force', 'overwrite a file that exists; always needed for a device or an export')
    .option('--dry-run', 'only say what would be done')
    .action(async (backup: string, target: string, options: RestoreOptions, command: Command) => {
      const context = cliContext(command);
      const input = {
        backup,
        ...(options.vm !== undefined && { vm: options.vm }),
        target: parseDiskPlace(target, 'the target'),
        format: options.format,
        force: options.force ?? false,
        dry_run: options.dryRun ?? false,
      };
      const outcome = await withJob(context, (app, watch) => app.restore(input, watch));
      if (input.dry_run) printAnswer(context, { success: true, dry_run: true, ...outcome }, () => describePlan(outcome));
      else printDone(context, outcome, () => describe(outcome));
    });
}

function describePlan(outcome: RestoreOutcome): string {
  const images = `${outcome.chain.length} image${outcome.chain.length === 1 ? '' : 's'}`;
  const names = outcome.chain.map((id) => `  ${id}\n`).join('');
  return `would restore ${outcome.backup_id} (${formatSize(outcome.total_bytes)}) to ${safeText(outcome.target)} from ${images}:\n${names}`;
}

function describe(outcome: RestoreOutcome): string {
  const bytes = `${formatSize(outcome.total_bytes)} disk, ${formatSize(outcome.bytes_written)} written`;
  return `${outcome.backup_id} is restored to ${safeText(outcome.target)}: ${bytes}, ${formatDuration(outcome.duration_ms)}\n`;
}
