// `verify`: are the stored bytes what they were when they were written?

import { Command } from 'commander';
import type { Damage, VerifyInput, VerifyOutcome } from '../../app-interface.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { cliContext, exitAsFailed, printAnswer } from '../cli-context.ts';
import { safeText } from '../safe-text.ts';
import { formatSize } from '../size-text.ts';
import { withJob } from '../with-app.ts';

interface VerifyOptions {
  readonly vm?: string;
  readonly repo?: string;
  readonly quick?: boolean;
}

export function verifyCommand(): Command {
  return new Command('verify')
    .description('check every stored cluster against its digest, the hash chain, and the images themselves')
    .argument('[backup]', 'an id, an unambiguous beginning of one, or "latest" with --vm')
    .option('--vm <name>', 'all backups of this VM (or the VM that "latest" means)')
    .option('--repo <name>', 'all backups in this repository')
    .option('--quick', 'read metadata only')
    .action(async (backup: string | undefined, options: VerifyOptions, command: Command) => {
      const context = cliContext(command);
      const input = verifyInput(backup, options);
      const outcome = await withJob(context, (app, watch) => app.verify(input, watch));
      const [first] = outcome.damaged;
      const failure = first && { error: summary(outcome, input), error_code: first.code };
      const { job_id, checked, clusters, bytes, damaged } = outcome;
      printAnswer(context, { success: !first, ...failure, checked, clusters, bytes, damaged, job_id }, () => {
        if (context.quiet && !first) return '';
        return outcome.damaged.map(renderDamage).join('') + (first ? '' : `${summary(outcome, input)}\n`);
      });
      if (!first) return;
      process.stderr.write(`error: ${summary(outcome, input)}\n`);
      process.stderr.write(
        'advice: restore points that are not named above are good; keep the damaged files and copy them from another repository if you can\n',
      );
      exitAsFailed();
    });
}

function verifyInput(backup: string | undefined, options: VerifyOptions): VerifyInput {
  const scopes = [backup ?? options.vm, options.repo].filter((scope) => scope !== undefined);
  if (scopes.length !== 1) {
    throw new ChainkeepError('USAGE', 'say what to verify: one of BACKUP, --vm NAME and --repo NAME', {
      advice: 'chainkeep verify latest --vm NAME takes the newest backup of a VM, --vm NAME alone all of them',
    });
  }
  return {
    ...(backup !== undefined && { backup }),
    ...(options.vm !== undefined && { vm: options.vm }),
    ...(options.repo !== undefined && { repository: options.repo }),
    quick: options.quick ?? false,
  };
}

function summary(outcome: VerifyOutcome, input: VerifyInput): string {
  const backups = `${outcome.checked} backup${outcome.checked === 1 ? '' : 's'}`;
  const work = input.quick ? 'metadata only' : `${outcome.clusters} clusters, ${formatSize(outcome.bytes)}`;
  if (outcome.damaged.length === 0) return `${backups} checked, no damage (${work})`;
  return `${backups} checked, damage in ${outcome.damaged.length} place${outcome.damaged.length === 1 ? '' : 's'} (${work})`;
}

function renderDamage(damage: Damage): string {
  const where = damage.guest_offset === null ? '' : `, guest offset ${damage.guest_offset} length ${damage.length ?? 'unknown'}`;
  return `${damage.backup_id}: ${damage.code}${where}: ${safeText(damage.message)}\n  restore points hit: ${damage.affects.join(', ')}\n`;
}
