// `export`: a backup, or all disks of a restore point, as disks over NBD, until it is interrupted.

import { Command, Option } from 'commander';
import type { ExportInput, ServedExport } from '../../app-interface.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { cliContext, printAnswer } from '../cli-context.ts';
import { safeText } from '../safe-text.ts';
import { addServingOptions, type ServingOptions, scratchPlace, servingPlace } from '../serving-options.ts';
import { parseTime } from '../time-text.ts';
import { withJob } from '../with-app.ts';

interface ExportOptions extends ServingOptions {
  readonly vm?: string;
  readonly at?: string;
  readonly writable?: boolean;
}

export function exportCommand(): Command {
  const command = new Command('export')
    .description('serve a backup, or all disks of a restore point (--vm NAME --at TIME), over NBD, every byte checked, until interrupted')
    .argument('[backup]', 'an id, an unambiguous beginning of one, or "latest" with --vm')
    .option('--vm <name>', 'the VM that "latest" or --at means')
    .addOption(
      new Option('--at <time>', 'all disks of the newest restore point of the VM that was complete then: 2026-11-22T14:05Z; UTC').argParser(
        parseTime,
      ),
    )
    .option('--writable', 'let clients write; what they wrote is gone at the end, and the backup stays as it is');
  addServingOptions(command, 'default: what is free, less a tenth, and nothing is reserved');
  return command.action(async (backup: string | undefined, options: ExportOptions, called: Command) => {
    const context = cliContext(called);
    const input = exportInput(backup, options, context.home);
    await withJob(context, (app, watch) =>
      app.exportBackup(input, {
        ...watch,
        onServing: (served) => printAnswer(context, { success: true, ...answer(input, served) }, () => addresses(input, served)),
      }),
    );
  });
}

function exportInput(backup: string | undefined, options: ExportOptions, home: string): ExportInput {
  const { vm, at, writable, scratch, scratchSize } = options;
  const advice = 'name a backup by its id, "latest" with --vm, or a restore point with --vm and --at';
  if (backup === undefined && (vm === undefined || at === undefined)) throw new ChainkeepError('USAGE', 'say what to export', { advice });
  if (backup !== undefined && at !== undefined) throw new ChainkeepError('USAGE', 'a BACKUP and --at do not go together', { advice });
  if (!writable && (scratch ?? scratchSize) !== undefined)
    throw new ChainkeepError('USAGE', '--scratch and --scratch-size are for what is written', { advice: 'give --writable with them' });
  return {
    ...(backup !== undefined && { backup }),
    ...(vm !== undefined && { vm }),
    ...(at !== undefined && { at }),
    ...(writable && { writable: scratchPlace(options, home) }),
    ...servingPlace(options, home, 'export'),
  };
}

/** One disk, or the list of those of a restore point. */
function answer({ at }: ExportInput, served: ServedExport): object {
  const [first] = served.disks;
  if (at !== undefined || !first) return served;
  const { backup_id, address, total_bytes } = first;
  return { backup_id, address, total_bytes, job_id: served.job_id };
}

function addresses({ at }: ExportInput, { disks }: ServedExport): string {
  return disks.map((disk) => `${at === undefined ? '' : `disk ${disk.disk_id}: `}${safeText(disk.address)}\n`).join('');
}
