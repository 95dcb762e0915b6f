// The options by which the commands of `repo` take the settings of a repository.

import { type Command, Option } from 'commander';
import { collect } from '../option-values.ts';

export const REPOSITORY_TYPES = ['local', 'nfs', 'cifs', 'smb', 's3', 'azure'];

export function withConfigOptions(command: Command): Command {
  return command
    .option('--path <dir>', 'folder of a local repository')
    .option('--config <file>', 'settings as a JSON object, secrets too; - reads stdin')
    .addOption(new Option('--set <key=value>', 'one setting, no secret; may be repeated').argParser(collect))
    .addOption(new Option('--secret <key=reference>', 'a secret from env:VAR or file:PATH; may be repeated').argParser(collect));
}
