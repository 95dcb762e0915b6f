// `show`: all that is known of one backup.

import { Command } from 'commander';
import type { BackupDetails } from '../../app-interface.ts';
import { cliContext, printAnswer } from '../cli-context.ts';
import { formatSize } from '../size-text.ts';
import { renderFields } from '../table.ts';
import { formatTime } from '../time-text.ts';
import { withApp } from '../with-app.ts';

export function showCommand(): Command {
  return new Command('show')
    .description('one backup')
    .argument('<backup>', 'an id, an unambiguous beginning of one, or "latest" with --vm')
    .option('--vm <name>', 'the VM that "latest" means')
    .action(async (backup: string, options: { readonly vm?: string }, command: Command) => {
      const context = cliContext(command);
      const details = await withApp(context, (app) => app.showBackup(backup, options.vm));
      printAnswer(context, details, () => renderDetails(details));
    });
}

function renderDetails(details: BackupDetails): string {
  const size = (bytes: number | null) => (bytes === null ? null : `${formatSize(bytes)} (${bytes} bytes)`);
  return renderFields({
    backup: details.backup_id,
    vm: `${details.vm_name} (${details.vm_context_id})`,
    disk: String(details.disk_id),
    type: details.backup_type,
    status: details.status,
    ...(details.error_message !== null && { error: details.error_message }),
    parent: details.parent_backup_id,
    chain: details.chain_id,
    'restore point': details.restore_point_id,
    ...(details.protected_until !== null && { 'locked until': formatTime(details.protected_until) }),
    ...(details.holds.length > 0 && { held: details.holds.map(({ reason, by, hold_id }) => `${reason} (${by}, ${hold_id})`).join('; ') }),
    dependents: details.dependents.length === 0 ? 'none' : details.dependents.join(', '),
    'disk size': size(details.total_bytes),
    stored: size(details.size_bytes),
    read: size(details.bytes_read),
    compression: details.compression,
    'cluster size': size(details.cluster_size),
    source: details.source,
    'change id': details.change_id,
    'content root': details.content_root,
    created: formatTime(details.created_at),
    completed: formatTime(details.completed_at),
    verified:
      details.verified_at === null ? details.verification_status : `${details.verification_status} ${formatTime(details.verified_at)}`,
    repository: details.repository,
    path: details.repository_path,
  });
}
