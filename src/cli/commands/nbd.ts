// `nbd`: the NBD library on any server; no repository is needed and none is opened.
// Only what the commands look like stands here: the library is loaded by the one that runs.

import { Command } from 'commander';
import { cliContext } from '../cli-context.ts';

export function nbdCommand(): Command {
  return new Command('nbd')
    .description('look at exports of NBD servers, and copy them')
    .addCommand(infoCommand())
    .addCommand(copyCommand());
}

function infoCommand(): Command {
  return new Command('info')
    .description('what a server says of an export')
    .argument('<address>', 'nbd://HOST/NAME, nbds://HOST/NAME?tls-certificates=FOLDER or nbd+unix:///NAME?socket=PATH')
    .option('--list', 'all exports of the server; the address names none')
    .action(async (address: string, options: { readonly list?: boolean }, command: Command) => {
      const { printExportList, printNbdInfo } = await import('./nbd/info.ts');
      await (options.list ? printExportList : printNbdInfo)(cliContext(command), address);
    });
}

function copyCommand(): Command {
  return new Command('copy')
    .description('copy a disk between an export and another one, or a raw file')
    .argument('<a>', 'the address of an export, or a raw file')
    .argument('<b>', 'the address of an export that can be written and is as large, or a new raw file')
    .option('--force', 'overwrite a file that exists')
    .option('--target-is-zero', 'the target is known to read as zeros: they are not written')
    .action(async (a: string, b: string, options: { readonly force?: boolean; readonly targetIsZero?: boolean }, command: Command) => {
      const { copyDisk } = await import('./nbd/copy.ts');
      await copyDisk(cliContext(command), {
        source: a,
        target: b,
        force: options.force ?? false,
        targetIsZero: options.targetIsZero ?? false,
      });
    });
}
