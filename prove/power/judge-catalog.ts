// Judges the catalog of a crash state in this process: it opens, it is whole, and this is what it says.

import { join } from 'node:path';
import { selectBackupJobs } from '../../src/catalog/backup-jobs.ts';
import { openCatalog } from '../../src/catalog/open-catalog.ts';
import { installationId } from '../../src/control/installation.ts';
import { systemClock } from '../../src/plumbing/clock.ts';
import type { DiskState } from './crash-state.ts';
import { writeState } from './write-state.ts';

export interface JudgedCatalog {
  readonly installation: string;
  /** Status by backup id. */
  readonly backups: ReadonlyMap<string, string>;
  readonly faults: readonly string[];
}

const FILES = ['home/catalog.sqlite', 'home/catalog.sqlite-wal', 'home/catalog.sqlite-journal'];

/** The same for states whose catalog is the same. */
export function catalogKey({ files }: DiskState): string {
  return FILES.map((name) => files.get(name)?.hash ?? '-').join(' ');
}

export async function judgeCatalog(state: DiskState, folder: string): Promise<JudgedCatalog> {
  const files = new Map([...state.files].filter(([name]) => FILES.includes(name)));
  writeState(folder, { files, folders: state.folders.filter((path) => path === 'home') });
  const catalog = await openCatalog({ url: `sqlite:${join(folder, 'home/catalog.sqlite')}`, clock: systemClock });
  try {
    const rows = await catalog.all({ sql: 'pragma integrity_check', parameters: [] });
    const said = rows.map((row) => String(row.integrity_check));
    const backups = new Map((await selectBackupJobs(catalog, {})).map((row) => [row.id, row.status]));
    return {
      installation: await installationId(catalog),
      backups,
      faults: said.filter((line) => line !== 'ok').map((line) => `the catalog: ${line}`),
    };
  } finally {
    await catalog.close();
  }
}
