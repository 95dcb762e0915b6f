// A home with one repository whose folders are made by hand, and a second view of its catalog to put rows there that no command would.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { openApp } from '../../src/app.ts';
import type { App, RescanOutcome } from '../../src/app-interface.ts';
import { type BackupJob, findBackupJob, insertBackupJob } from '../../src/catalog/backup-jobs.ts';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { insertTrackedJob } from '../../src/catalog/job-tracking.ts';
import { LEASES } from '../../src/catalog/leases.ts';
import { openCatalog } from '../../src/catalog/open-catalog.ts';
import type { Owner } from '../../src/catalog/owner-fields.ts';
import { insert } from '../../src/catalog/table.ts';
import { findVmContextById, insertVmContext } from '../../src/catalog/vm-contexts.ts';
import { currentOwner } from '../../src/control/owner.ts';
import { loadBlake3 } from '../../src/plumbing/blake3.ts';
import { isoTime, newId, systemClock } from '../../src/plumbing/clock.ts';
import { Secret } from '../../src/plumbing/secret.ts';
import { diskFolder, sidecarFile } from '../../src/repository/layout.ts';
import { encodeSealed } from '../../src/repository/sealed-json.ts';
import { encodeSidecar } from '../../src/repository/sidecar.ts';
import type { Sidecar } from '../../src/repository/sidecar-fields.ts';
import { scratchPlace } from '../catalog/scratch-catalog.ts';
import { sidecarOf } from '../repository/made-up-sidecar.ts';

export type Writer = 'alive' | 'unknown' | 'silent' | 'dead';

export interface RescanSite {
  readonly app: App;
  readonly catalog: Catalog;
  readonly repositoryId: string;
  readonly folder: string;
  /** Absolute path of a file of a backup. */
  path(sidecar: Sidecar, ending: string): string;
  /** Writes the files of a backup; those not asked for are left out. */
  put(sidecar: Sidecar, files?: { readonly sidecar?: 'valid' | 'damaged' | 'absent'; readonly image?: boolean }): Promise<void>;
  /** A hold or its lifting, sealed. */
  seal(sidecar: Sidecar, ending: string, value: object): Promise<void>;
  /** A row as a run would have entered it. */
  enter(sidecar: Sidecar, other: Partial<BackupJob>, writer?: Writer): Promise<void>;
  row(id: string): Promise<BackupJob | undefined>;
  rescan(): Promise<RescanOutcome>;
}

/** A full backup of a VM of its own; on a parent, of its VM. */
export function newBackup(parent: Sidecar | null = null, change: Partial<Sidecar> = {}): Sidecar {
  const vm = parent ? { vm_context_id: parent.vm_context_id } : { vm_context_id: newId(systemClock), vm_name: 'made up' };
  const id = newId(systemClock);
  return sidecarOf(id, parent, { ...vm, restore_point_id: id, ...change });
}

export async function openRescanSite(): Promise<RescanSite> {
  const scratch = mkdtempSync(join(tmpdir(), 'chainkeep-rescan-'));
  const home = join(scratch, 'home');
  const folder = join(scratch, 'repository');
  const place = await scratchPlace();
  const password = place.password === undefined ? {} : { databasePassword: new Secret(place.password) };
  const app = await openApp({ home, databaseUrl: place.url, ...password });
  const catalog = await openCatalog({ ...place, clock: systemClock });
  onTestFinished(async () => {
    await catalog.close();
    await app.close();
    rmSync(scratch, { recursive: true, force: true });
  });
  const { repository_id: repositoryId } = await app.addRepository({ name: 'r', type: 'local', config: { path: folder }, take_over: false });
  const blake3 = await loadBlake3();
  const self = await currentOwner(catalog);
  const folderOf = ({ vm_context_id: vmContextId, disk_id: diskId }: Sidecar): string => join(folder, diskFolder({ vmContextId, diskId }));
  const path = (sidecar: Sidecar, ending: string): string => join(folderOf(sidecar), `${sidecar.backup_id}.${ending}`);
  return {
    ...{ app, catalog, repositoryId, folder, path },
    put: async (sidecar, files = { sidecar: 'valid', image: true }) => {
      mkdirSync(folderOf(sidecar), { recursive: true });
      if (files.image) {
        writeFileSync(path(sidecar, 'qcow2'), Buffer.alloc(sidecar.size_bytes));
        writeFileSync(join(folderOf(sidecar), sidecar.digests.name), 'digests');
      }
      if (files.sidecar === undefined || files.sidecar === 'absent') return;
      const bytes = encodeSidecar(blake3, sidecar);
      if (files.sidecar === 'damaged') bytes.writeUInt8(bytes.readUInt8(40) ^ 1, 40);
      writeFileSync(join(folderOf(sidecar), sidecarFile(sidecar.backup_id)), bytes);
    },
    seal: async (sidecar, ending, value) => {
      mkdirSync(folderOf(sidecar), { recursive: true });
      writeFileSync(path(sidecar, ending), encodeSealed(blake3, value));
    },
    enter: async (sidecar, other, writer) => {
      await enterRow(catalog, repositoryId, sidecar, other);
      if (writer) await enterWriter(catalog, { repositoryId, sidecar, self, writer });
    },
    row: (id) => findBackupJob(catalog, id),
    rescan: () => app.rescanRepository('r', {}),
  };
}

async function enterRow(catalog: Catalog, repository_id: string, sidecar: Sidecar, other: Partial<BackupJob>): Promise<void> {
  const { vm_context_id, vm_name, disk_id, backup_type, parent_backup_id, total_bytes, restore_point_id, chain_id, created_at } = sidecar;
  if (!(await findVmContextById(catalog, vm_context_id)))
    await insertVmContext(catalog, { context_id: vm_context_id, vm_name, created_at });
  const repository_path = `${diskFolder({ vmContextId: vm_context_id, diskId: disk_id })}${sidecar.backup_id}.qcow2`;
  await insertBackupJob(catalog, {
    ...{ id: sidecar.backup_id, vm_context_id, vm_name, disk_id, repository_id, backup_type, repository_path, parent_backup_id },
    ...{ total_bytes, compression_enabled: false, restore_point_id, chain_id, created_at, started_at: sidecar.started_at },
    ...other,
  });
}

interface WriterOf {
  readonly repositoryId: string;
  readonly sidecar: Sidecar;
  readonly self: Owner;
  readonly writer: Writer;
}

/** The job that makes a backup, and its lease. */
async function enterWriter(catalog: Catalog, { repositoryId, sidecar, self, writer }: WriterOf): Promise<void> {
  const far = { ...self, machine_id: 'another-machine', hostname: 'elsewhere' };
  const owner = { alive: self, dead: { ...self, pid: 2 ** 22 + 1 }, unknown: far, silent: far }[writer];
  const now = isoTime(systemClock.now());
  const id = newId(systemClock);
  const metadata = { [`backup_id_of_disk_${sidecar.disk_id}`]: sidecar.backup_id };
  await insertTrackedJob(catalog, { id, job_type: 'backup', operation: 'made up', status: 'running', owner, metadata, created_at: now });
  const expires_at = isoTime(systemClock.now() + (writer === 'silent' ? -1 : 3_600_000));
  const { vm_context_id, disk_id } = sidecar;
  const lease = { id: newId(systemClock), repository_id: repositoryId, vm_context_id, disk_id, job_id: id, owner, acquired_at: now };
  await insert(catalog, LEASES, { ...lease, expires_at });
}
