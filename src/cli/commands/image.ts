// `image`: the qcow2 library on any image file; no repository is needed and none is opened.
// Only what the commands look like stands here: the library is loaded by the one that runs.

import { Command, Option } from 'commander';
import { ChainkeepError } from '../../plumbing/errors.ts';
import type { ImageFormat } from '../../qcow2/open-image-file.ts';
import { cliContext } from '../cli-context.ts';
import { parseFilePlace } from '../option-values.ts';
import type { ConvertChoice } from './image/convert.ts';

interface ConvertOptions extends Pick<ConvertChoice, 'format' | 'compression' | 'sourceFormat'> {
  readonly withBacking?: boolean;
  readonly force?: boolean;
}

interface CompareOptions {
  readonly formatA: ImageFormat;
  readonly formatB: ImageFormat;
  readonly withBacking?: boolean;
}

export function imageCommand(): Command {
  return new Command('image')
    .description('look at, check, convert and compare image files')
    .addCommand(infoCommand())
    .addCommand(checkCommand())
    .addCommand(mapCommand())
    .addCommand(convertCommand())
    .addCommand(compareCommand());
}

function withBackingOption(command: Command): Command {
  return command.option('--with-backing', 'open the backing file too, if it is a plain name in the same folder');
}

function infoCommand(): Command {
  return new Command('info')
    .description('what a qcow2 image says of itself; nothing that it names is opened')
    .argument('<file>', 'a qcow2 image')
    .action(async (file: string, _options: object, command: Command) => {
      const { printImageInfo } = await import('./image/info.ts');
      await printImageInfo(cliContext(command), parseFilePlace(file, 'the file'));
    });
}

function checkCommand(): Command {
  return new Command('check')
    .description('is the structure of a qcow2 image sound? exit code 1 when not')
    .argument('<file>', 'a qcow2 image')
    .action(async (file: string, _options: object, command: Command) => {
      const { printImageCheck } = await import('./image/check.ts');
      await printImageCheck(cliContext(command), parseFilePlace(file, 'the file'));
    });
}

function mapCommand(): Command {
  return withBackingOption(new Command('map'))
    .description('which ranges of the disk hold data, and where')
    .argument('<file>', 'a qcow2 image')
    .action(async (file: string, options: { readonly withBacking?: boolean }, command: Command) => {
      const { printImageMap } = await import('./image/map.ts');
      await printImageMap(cliContext(command), parseFilePlace(file, 'the file'), options.withBacking ?? false);
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
    .action(async (source: string, target: string, options: ConvertOptions, command: Command) => {
      if (options.format === 'raw' && options.compression !== 'none') {
        throw new ChainkeepError('USAGE', `a raw target cannot be compressed (${options.compression})`);
      }
      const { convertImage } = await import('./image/convert.ts');
      await convertImage(cliContext(command), {
        source: parseFilePlace(source, 'the source'),
        sourceFormat: options.sourceFormat,
        withBacking: options.withBacking ?? false,
        target: parseFilePlace(target, 'the target'),
        format: options.format,
        compression: options.compression,
        force: options.force ?? false,
      });
    });
}

function compareCommand(): Command {
  return withBackingOption(new Command('compare'))
    .description('do two images hold the same disk? exit code 1 when not')
    .argument('<a>', 'an image')
    .argument('<b>', 'another one')
    .addOption(new Option('--format-a <format>', 'of the first; never guessed').choices(['raw', 'qcow2']).default('qcow2'))
    .addOption(new Option('--format-b <format>', 'of the second; never guessed').choices(['raw', 'qcow2']).default('qcow2'))
    .action(async (a: string, b: string, options: CompareOptions, command: Command) => {
      const { printImageComparison } = await import('./image/compare.ts');
      const first = { file: parseFilePlace(a, 'the first image'), format: options.formatA };
      const second = { file: parseFilePlace(b, 'the second image'), format: options.formatB };
      await printImageComparison(cliContext(command), first, second, options.withBacking ?? false);
    });
}
