// `vms`: the VMs that are protected.

import { Command } from 'commander';
import type { VmView } from '../../app-interface.ts';
import { cliContext, printAnswer, printDone } from '../cli-context.ts';
import { safeText } from '../safe-text.ts';
import { formatSize } from '../size-text.ts';
import { renderTable } from '../table.ts';
import { formatTime } from '../time-text.ts';
import { withApp } from '../with-app.ts';

export function vmsCommand(): Command {
  return new Command('vms')
    .description('the protected VMs')
    .action(async (_options: object, command: Command) => {
      const context = cliContext(command);
      const vms = await withApp(context, (app) => app.listVms());
      printAnswer(context, { vms }, () => (vms.length === 0 ? 'no VMs yet\n' : renderVms(vms)));
    })
    .addCommand(renameCommand());
}

function renderVms(vms: readonly VmView[]): string {
  return renderTable(
    [
      { title: 'VM', cell: (row) => row.vm_name },
      { title: 'ID', cell: (row) => row.vm_context_id },
      { title: 'PLATFORM', cell: (row) => row.platform },
      { title: 'BACKUPS', cell: (row) => String(row.backup_count), side: 'right' },
      { title: 'STORED', cell: (row) => formatSize(row.size_bytes), side: 'right' },
      { title: 'LAST BACKUP', cell: (row) => formatTime(row.last_backup_at) },
    ],
    vms,
  );
}

function renameCommand(): Command {
  return new Command('rename')
    .description('give a VM another name; its id and its backups stay')
    .argument('<vm>', 'its name or id')
    .argument('<name>', 'the new name')
    .action(async (vm: string, name: string, _options: object, command: Command) => {
      const context = cliContext(command);
      await withApp(context, (app) => app.renameVm(vm, name));
      printDone(context, { vm, vm_name: name }, () => `${safeText(vm)} is now called ${safeText(name)}\n`);
    });
}
