// What a new backup is to be: the options of every command that makes one.

import { type Command, Option } from 'commander';
import type { BackupInput } from '../app-interface.ts';
import { parseSize } from './size-text.ts';

export interface NewBackupOptions {
  readonly repo?: string;
  readonly type: BackupInput['type'];
  readonly compression: BackupInput['compression'];
  readonly clusterSize?: number;
}

export function addNewBackupOptions(command: Command): Command {
  return command
    .option('--repo <name>', 'where to; default: the only repository, or one named "default" in the home')
    .addOption(
      new Option('--type <type>', 'auto: incremental where a completed parent exists, else full')
        .choices(['auto', 'full', 'incremental', 'differential'])
        .default('auto'),
    )
    .addOption(new Option('--compression <kind>', 'of the stored clusters').choices(['zstd', 'none']).default('zstd'))
    .addOption(new Option('--cluster-size <size>', 'of a new chain (default: 64k)').argParser(parseSize));
}

export function newBackup({ repo, type, compression, clusterSize }: NewBackupOptions) {
  return {
    ...(repo !== undefined && { repository: repo }),
    type,
    compression,
    ...(clusterSize !== undefined && { cluster_size: clusterSize }),
  };
}
