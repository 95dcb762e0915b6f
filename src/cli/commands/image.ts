// `image`: the qcow2 library on any image file; no repository is needed and none is opened.

import { Command, Option } from 'commander';
import { notBuiltYet } from '../planned-command.ts';

export function imageCommand(): Command {
  return new Command('image')
    .description('look at, check, convert and compare image files')
    .addCommand(inspectCommand('info', 'what the image says of itself'))
    .addCommand(inspectCommand('check', 'is its structure sound? exit code 1 when not'))
    .addCommand(inspectCommand('map', 'which ranges of the disk hold data, and where'))
    .addCommand(convertCommand())
    .addCommand(compareCommand());
}

function withBackingOption(command: Command): Command {
  return command.option('--with-backing', 'open the backing file too, if it is a plain name in the same folder');
}

function inspectCommand(name: 'info' | 'check' | 'map', description: string): Command {
  const command = new Command(name).description(description).argument('<file>', 'a qcow2 image');
  return (name === 'map' ? withBackingOption(command) : command).action(() => {
    throw notBuiltYet(`"chainkeep image ${name}"`);
  });
}

function convertCommand(): Command {
  return withBackingOption(new Command('convert'))
    .description('write an image in another format')
    .argument('<source>', 'a qcow2 image, or a raw one with --source-format raw')
    .argument('<target>', 'a new file')
    .addOption(new Option('--format <format>', 'of the target').choices(['raw', 'qcow2']).makeOptionMandatory())
    .addOption(new Option('--compression <kind>', 'of a qcow2 target').choices(['zstd', 'zlib', 'none']).default('none'))
    .addOption(new Option('--source-format <format>', 'of the source; never guessed').choices(['raw', 'qcow2']).default('qcow2'))
    .option('--force', 'overwrite a file that exists')
    .action(() => {
      throw notBuiltYet('"chainkeep image convert"');
    });
}

function compareCommand(): Command {
  return withBackingOption(new Command('compare'))
    .description('do two images hold the same disk? exit code 1 when not')
    .argument('<a>', 'an image')
    .argument('<b>', 'another one')
    .addOption(new Option('--format-a <format>', 'of the first; never guessed').choices(['raw', 'qcow2']).default('qcow2'))
    .addOption(new Option('--format-b <format>', 'of the second; never guessed').choices(['raw', 'qcow2']).default('qcow2'))
    .action(() => {
      throw notBuiltYet('"chainkeep image compare"');
    });
}
