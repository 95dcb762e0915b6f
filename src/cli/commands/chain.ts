// `chain`: the chains of a VM, newest first, each from its full backup on.

import { Command, Option } from 'commander';
import type { ChainView } from '../../app-interface.ts';
import { cliContext, printAnswer } from '../cli-context.ts';
import { parseDiskNumber } from '../option-values.ts';
import { renderBackups } from '../render-backups.ts';
import { safeText } from '../safe-text.ts';
import { formatSize } from '../size-text.ts';
import { withApp } from '../with-app.ts';

export function chainCommand(): Command {
  return new Command('chain')
    .description('the chains of a VM')
    .requiredOption('--vm <name>', 'its name or id')
    .addOption(new Option('--disk <n>', 'only of this disk').argParser(parseDiskNumber))
    .action(async (options: { readonly vm: string; readonly disk?: number }, command: Command) => {
      const context = cliContext(command);
      const filter = { vm: options.vm, ...(options.disk !== undefined && { disk_id: options.disk }) };
      const chains = await withApp(context, (app) => app.listChains(filter));
      printAnswer(context, { chains }, () => (chains.length === 0 ? 'no chains\n' : chains.map(renderChain).join('\n')));
    });
}

function renderChain(chain: ChainView): string {
  const count = `${chain.total_backups} backup${chain.total_backups === 1 ? '' : 's'}`;
  const title = `chain ${chain.chain_id}: disk ${chain.disk_id} in ${safeText(chain.repository)}, ${count}, ${formatSize(chain.total_size_bytes)} stored`;
  return `${title}\n${renderBackups(chain.backups)}`;
}
