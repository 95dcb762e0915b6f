// `backup`: keep one or several disks of a VM as one restore point.

import { Command, Option } from 'commander';
import type { BackupInput, BackupOutcome } from '../../app-interface.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { addNewBackupOptions, type NewBackupOptions, newBackup } from '../backup-options.ts';
import { type CliContext, cliContext, printAnswer, printDone } from '../cli-context.ts';
import { collect, parseDiskNumber, parseDiskPlace, parseFilePlace, parsePair, parseVmPlace } from '../option-values.ts';
import { safeText } from '../safe-text.ts';
import { formatSize } from '../size-text.ts';
import { formatDuration } from '../time-text.ts';
import { withJob } from '../with-app.ts';

interface BackupOptions extends NewBackupOptions {
  readonly vm: string;
  readonly disk?: readonly string[];
  readonly format: BackupInput['format'];
  readonly withBacking?: boolean;
  readonly bitmap?: string;
  readonly changeId?: string;
  readonly changedExtents?: string;
  readonly sinceChangeId?: string;
  readonly scratch?: string;
  readonly guestAgent?: string;
  readonly dryRun?: boolean;
}

export function backupCommand(): Command {
  const command = new Command('backup')
    .description('keep a disk, or several as one restore point (--disk 0=SOURCE --disk 1=SOURCE)')
    .argument(
      '[source]',
      'a file, a block device, an NBD export (nbd://, nbds://, nbd+unix://), or a running machine with all of its disks: qmp:SOCKET, libvirt:DOMAIN',
    )
    .requiredOption('--vm <name>', 'the VM that the disk belongs to: its name or id; a new name makes a new VM')
    .addOption(
      new Option('--disk <n|n=source>', 'number of the disk (default: 0), or number and source; may be repeated').argParser(collect),
    );
  return addNewBackupOptions(command)
    .addOption(new Option('--format <format>', 'of the source; never guessed').choices(['raw', 'qcow2']).default('raw'))
    .option('--with-backing', 'read a qcow2 source together with its backing file')
    .option('--bitmap <name>', 'dirty bitmap of an NBD export: only what it marks is read; it must be the change id of the parent')
    .option('--change-id <id>', "the source's own mark of this state, kept with the backup (default with --bitmap: its name)")
    .option('--changed-extents <file>', 'JSON list of what changed, [{"start": 0, "length": 65536}]: only that is read')
    .option('--since-change-id <id>', 'the mark from which on the changed extents are complete; must be that of the parent')
    .option('--scratch <folder>', 'of a running machine: room for what the guest overwrites meanwhile (default: /var/tmp)')
    .option('--guest-agent <socket>', 'of a running machine: its guest agent, where QEMU does not know it')
    .option('--dry-run', 'only say what would be done')
    .action(async (source: string | undefined, options: BackupOptions, called: Command) => {
      const context = cliContext(called);
      const input = backupInput(source, options);
      const outcomes = await withJob(context, (app, watch) => app.backup(input, watch));
      printOutcomes(context, outcomes, input);
    });
}

function backupInput(source: string | undefined, options: BackupOptions): BackupInput {
  if ((options.changedExtents === undefined) !== (options.sinceChangeId === undefined)) {
    throw new ChainkeepError('USAGE', '--changed-extents and --since-change-id belong together', {
      advice: 'changed extents are only of use with the mark that they start from',
    });
  }
  if (options.bitmap !== undefined && options.changedExtents !== undefined) {
    throw new ChainkeepError('USAGE', '--bitmap and --changed-extents do not go together', { advice: 'use the one that the source keeps' });
  }
  const disks = readDisks(source, options.disk ?? []);
  if (options.changedExtents !== undefined && disks.length > 1) {
    throw new ChainkeepError('USAGE', '--changed-extents is of one disk, and several are given', {
      advice: 'back up each disk by itself, with its own list',
    });
  }
  return {
    vm: options.vm,
    disks,
    ...newBackup(options),
    format: options.format,
    with_backing: options.withBacking ?? false,
    ...(options.changeId !== undefined && { change_id: options.changeId }),
    ...(options.bitmap !== undefined && { bitmap: options.bitmap }),
    ...(options.scratch !== undefined && { scratch: parseFilePlace(options.scratch, 'the scratch folder') }),
    ...(options.guestAgent !== undefined && { guest_agent: parseFilePlace(options.guestAgent, 'the socket of the guest agent') }),
    ...changedExtents(options),
    dry_run: options.dryRun ?? false,
  };
}

function changedExtents({ changedExtents: path, sinceChangeId: since }: BackupOptions): Pick<BackupInput, 'changed_extents'> {
  if (path === undefined || since === undefined) return {};
  return { changed_extents: { path: parseFilePlace(path, 'the list of changed extents'), since_change_id: since } };
}

/** `SOURCE`, `SOURCE --disk N`, or one or more `--disk N=SOURCE`. */
function readDisks(source: string | undefined, disks: readonly string[]): BackupInput['disks'] {
  const advice = 'use SOURCE, SOURCE --disk N, or for several disks --disk 0=SOURCE --disk 1=SOURCE';
  if (source !== undefined) {
    const vm = parseVmPlace(source);
    if (vm !== undefined && disks.length > 0)
      throw new ChainkeepError('USAGE', 'a running machine brings all of its disks', { advice: 'leave --disk out' });
    if (vm !== undefined) return [{ disk_id: 0, source: vm }];
    if (disks.length > 1 || disks.some((text) => text.includes('='))) {
      throw new ChainkeepError('USAGE', 'a SOURCE of its own and --disk N=SOURCE do not go together', { advice });
    }
    return [{ disk_id: parseDiskNumber(disks[0] ?? '0'), source: parseDiskPlace(source, 'the source') }];
  }
  if (disks.length === 0) throw new ChainkeepError('USAGE', 'the SOURCE is missing', { advice });
  const pairs = disks.map((text) => {
    const [number, place] = parsePair(text, '--disk');
    return { disk_id: parseDiskNumber(number), source: parseDiskPlace(place, `the source of disk ${number}`) };
  });
  const twice = pairs.find((pair, index) => pairs.findIndex((other) => other.disk_id === pair.disk_id) !== index);
  if (twice) throw new ChainkeepError('USAGE', `disk ${twice.disk_id} is given twice`, { advice });
  return pairs;
}

function printOutcomes(context: CliContext, outcomes: readonly BackupOutcome[], input: BackupInput): void {
  const text = () => outcomes.map((outcome) => describe(outcome, input.dry_run)).join('');
  const [first] = outcomes;
  const answer = outcomes.length === 1 && first ? first : { restore_point_id: first?.restore_point_id ?? null, backups: outcomes };
  if (input.dry_run) printAnswer(context, { success: true, dry_run: true, ...answer }, text);
  else printDone(context, answer, text);
}

function describe(outcome: BackupOutcome, dryRun: boolean): string {
  const parent = outcome.parent_backup_id ? ` on ${outcome.parent_backup_id}` : '';
  const where = `of disk ${outcome.disk_id} in ${safeText(outcome.repository)}`;
  if (dryRun)
    return `would make a backup: ${outcome.backup_type}${parent} ${where}, ${formatSize(outcome.total_bytes)}; ${safeText(outcome.changes)}\n`;
  const bytes = `${formatSize(outcome.total_bytes)} disk, ${formatSize(outcome.bytes_read)} read, ${formatSize(outcome.size_bytes)} stored`;
  return `${outcome.backup_id}: ${outcome.backup_type} backup${parent} ${where}: ${bytes}, ${formatDuration(outcome.duration_ms)}\n`;
}
