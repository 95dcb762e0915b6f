// `receive`: takes disks that are pushed over NBD, and makes a backup of them when somebody says that they are complete.

import { Command, Option } from 'commander';
import type { BackupOutcome, PushOutcome, ReceiveInput, ServedPush } from '../../app-interface.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { addNewBackupOptions, type NewBackupOptions, newBackup } from '../backup-options.ts';
import { type CliContext, cliContext, printAnswer, printDone } from '../cli-context.ts';
import { collect, parseCount, parseDiskNumber, parsePair } from '../option-values.ts';
import { safeText } from '../safe-text.ts';
import { addServingOptions, type ServingOptions, scratchPlace, servingPlace } from '../serving-options.ts';
import { formatSize, parseSize } from '../size-text.ts';
import { withApp, withJob } from '../with-app.ts';

interface LimitOptions {
  readonly reconnectWithin?: number;
  readonly wait?: number;
}

interface ReceiveOptions extends NewBackupOptions, ServingOptions, LimitOptions {
  readonly vm?: string;
  readonly disk?: readonly string[];
  readonly size?: number;
  readonly changeId?: string;
  readonly sinceChangeId?: string;
}

export function receiveCommand(): Command {
  const command = new Command('receive')
    .description('take a disk that an agent writes over NBD, and make a backup of it when it is completed; prints address and job first')
    .option('--vm <name>', 'the VM that the disk belongs to: its name or id; a new name makes a new VM')
    .addOption(new Option('--disk <n|n=size>', 'number of the disk, or number and size; may be repeated').argParser(collect))
    .addOption(new Option('--size <size>', 'of the disk: 10G').argParser(parseSize));
  addNewBackupOptions(command)
    .option('--change-id <id>', "the source's own mark of this state, kept with the backup; may also be given when it is completed")
    .option('--since-change-id <id>', 'the disk reads as the parent, which must have this mark; only what is written counts as changed');
  addLimits(command);
  return addServingOptions(command, 'default: all of the disk')
    .action(async (options: ReceiveOptions, called: Command) => {
      const context = cliContext(called);
      const input = receiveInput(options, context.home);
      const outcomes = await withJob(context, (app, watch) =>
        app.pushes.receive(input, { ...watch, onServing: (served) => printServing(context, served) }),
      );
      // With --json the one document was the addresses; "receive complete" answers what became of it.
      if (!context.json) printDone(context, {}, () => outcomes.map(describe).join(''));
    })
    .addCommand(completeCommand())
    .addCommand(limitsCommand());
}

function addLimits(command: Command): Command {
  return command
    .addOption(
      new Option('--reconnect-within <seconds>', 'a client that vanished must be back in this time, or the push has failed').argParser(
        parseCount,
      ),
    )
    .addOption(
      new Option('--wait <seconds>', 'how long there may be no client: before the first, and after all said goodbye').argParser(parseCount),
    );
}

function limitsOf({ reconnectWithin, wait }: LimitOptions): ReceiveInput['limits'] {
  return { ...(reconnectWithin !== undefined && { reconnect_within: reconnectWithin }), ...(wait !== undefined && { wait }) };
}

function receiveInput(options: ReceiveOptions, home: string): ReceiveInput {
  const { vm, changeId, sinceChangeId } = options;
  if (vm === undefined) throw new ChainkeepError('USAGE', 'say which VM the disk belongs to', { advice: 'for example: --vm web-1' });
  const disks = readDisks(options);
  if (sinceChangeId !== undefined && disks.length > 1) {
    throw new ChainkeepError('USAGE', '--since-change-id is of one disk, and several are given', { advice: 'receive each disk by itself' });
  }
  return {
    vm,
    disks: disks.map((disk) => ({ ...disk, ...(sinceChangeId !== undefined && { since_change_id: sinceChangeId }) })),
    ...newBackup(options),
    ...(changeId !== undefined && { change_id: changeId }),
    scratch: scratchPlace(options, home),
    limits: limitsOf(options),
    ...servingPlace(options, home, 'receive'),
  };
}

/** `--size S`, `--disk N --size S`, or one or more `--disk N=SIZE`. */
function readDisks({ disk = [], size }: ReceiveOptions): { disk_id: number; size_bytes: number }[] {
  const advice = 'use --disk N --size SIZE, or for several disks --disk 0=SIZE --disk 1=SIZE';
  if (size !== undefined) {
    if (disk.length > 1 || disk.some((text) => text.includes('=')))
      throw new ChainkeepError('USAGE', '--size and --disk N=SIZE do not go together', { advice });
    return [{ disk_id: parseDiskNumber(disk[0] ?? '0'), size_bytes: size }];
  }
  if (disk.length === 0) throw new ChainkeepError('USAGE', 'the size of the disk is missing', { advice });
  const pairs = disk.map((text) => {
    const [number, bytes] = parsePair(text, '--disk');
    return { disk_id: parseDiskNumber(number), size_bytes: parseSize(bytes) };
  });
  const twice = pairs.find(({ disk_id }, index) => pairs.findIndex((other) => other.disk_id === disk_id) !== index);
  if (twice) throw new ChainkeepError('USAGE', `disk ${twice.disk_id} is given twice`, { advice });
  return pairs;
}

function printServing(context: CliContext, served: ServedPush): void {
  const several = served.disks.length > 1;
  const lines = served.disks.map(({ disk_id, address }) => `${several ? `disk ${disk_id}: ` : ''}${safeText(address)}\n`);
  printAnswer(context, { success: true, ...served }, () => `${lines.join('')}job ${served.job_id}\n`);
}

function describe({ backup_id, backup_type, parent_backup_id, disk_id, repository, size_bytes }: BackupOutcome): string {
  const parent = parent_backup_id ? ` on ${parent_backup_id}` : '';
  return `${backup_id}: ${backup_type} backup${parent} of disk ${disk_id} in ${safeText(repository)}, ${formatSize(size_bytes)} stored\n`;
}

function completeCommand(): Command {
  return new Command('complete')
    .description('say that all was written: waits until the last client has said goodbye and the backup is made, and answers which one')
    .argument('<job>', 'the job that "receive" printed')
    .option('--change-id <id>', "the source's own mark of this state, kept with the backup")
    .action(async (job: string, _options: object, called: Command) => {
      const context = cliContext(called);
      const { changeId } = optionsOf<{ readonly changeId?: string }>(called);
      const outcome = await withJob(context, async (app, { signal }) => {
        const { job_id: id } = await app.pushes.complete(job, changeId);
        return app.pushes.outcome(id, signal);
      });
      printDone(context, outcome, () => renderOutcome(outcome));
    });
}

function renderOutcome({ backups }: PushOutcome): string {
  return backups
    .map(
      ({ backup_id, backup_type, disk_id, size_bytes }) =>
        `${backup_id}: ${backup_type} backup of disk ${disk_id}, ${formatSize(size_bytes)} stored\n`,
    )
    .join('');
}

function limitsCommand(): Command {
  return addLimits(
    new Command('limits').description('how long is waited for clients that push, where "receive" is not told otherwise'),
  ).action(async (_options: object, called: Command) => {
    const context = cliContext(called);
    const options = optionsOf<LimitOptions>(called);
    const limits = await withApp(context, (app) => app.pushes.limits(limitsOf(options)));
    printAnswer(context, limits, () => `a client may be gone for ${limits.reconnect_within} s; without any, ${limits.wait} s are waited\n`);
  });
}

/** Options of a command below `receive`: one that both have is found by the upper one, and one that only the upper one has is wrong here. */
function optionsOf<Options extends object>(called: Command): Options {
  const own = called.options.map((option) => option.attributeName());
  const { parent } = called;
  const foreign = parent?.options.find((option) => {
    const name = option.attributeName();
    return !own.includes(name) && parent.getOptionValueSource(name) === 'cli';
  });
  if (foreign) throw new ChainkeepError('USAGE', `"receive ${called.name()}" has no option ${foreign.long ?? foreign.flags}`);
  return called.optsWithGlobals();
}
