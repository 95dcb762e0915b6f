// Who keeps the backups of a story: the repository in this process, or the program as a user has it. The story must not see which.

import type { BackupType } from '../../src/repository/sidecar-fields.ts';
import type { Choice } from './known-chains.ts';
import type { Source, SourceKind } from './written-sources.ts';

export interface Kept {
  readonly id: string;
  readonly type: BackupType;
  readonly parent: string | null;
  /** Clusters of data that were stored. */
  readonly clustersWritten: number;
}

export interface Keeper {
  /** The sources it can read. */
  readonly kinds: readonly SourceKind[];
  backUp(source: Source, choice: Choice): Promise<Kept>;
  /** To a file that is not there yet. */
  restore(id: string, target: string, format: 'raw' | 'qcow2'): Promise<void>;
  /** Answers the code of the refusal, if it was refused. */
  remove(id: string): Promise<string | undefined>;
  /** What verify names, quick and not. */
  findDamage(): Promise<readonly string[]>;
  /** Folder of the repository; a story moves it away at its end. */
  readonly root: string;
  /** Folder of the images of the disk; known after the first backup. */
  diskFolder(): string;
}
