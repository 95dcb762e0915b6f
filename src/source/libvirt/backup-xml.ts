// The two documents that begin a backup in libvirt: what is exported, and the checkpoint that begins in the same moment.

import { join } from 'node:path';
import type { DomainDisk } from './domain.ts';
import { escapeXml } from './xml.ts';

/** The bitmap of an export, whatever checkpoint it is counted from. */
export const EXPORT_BITMAP = 'changed';

export interface BackupDocument {
  readonly disks: readonly DomainDisk[];
  /** Path of the NBD socket. */
  readonly socket: string;
  readonly scratchFolder: string;
  /** Number of a disk → the checkpoint that its changes are counted from. */
  readonly since: ReadonlyMap<number, string>;
}

export function exportName({ number }: DomainDisk): string {
  return `disk-${number}`;
}

export function backupXml({ disks, socket, scratchFolder, since }: BackupDocument): string {
  const all = disks.map((disk) => {
    const checkpoint = since.get(disk.number);
    const mode =
      checkpoint === undefined
        ? "backupmode='full'"
        : `backupmode='incremental' incremental='${escapeXml(checkpoint)}' exportbitmap='${EXPORT_BITMAP}'`;
    const scratch = escapeXml(join(scratchFolder, `${exportName(disk)}.qcow2`));
    return `<disk name='${escapeXml(disk.name)}' backup='yes' type='file' exportname='${exportName(disk)}' ${mode}><scratch file='${scratch}'/></disk>`;
  });
  const server = `<server transport='unix' socket='${escapeXml(socket)}'/>`;
  return `<domainbackup mode='pull'>${server}<disks>${all.join('')}</disks></domainbackup>\n`;
}

export function checkpointXml(name: string, disks: readonly DomainDisk[]): string {
  const all = disks.map(
    ({ name: disk, keepsBitmaps }) => `<disk name='${escapeXml(disk)}' checkpoint='${keepsBitmaps ? 'bitmap' : 'no'}'/>`,
  );
  return `<domaincheckpoint><name>${escapeXml(name)}</name><disks>${all.join('')}</disks></domaincheckpoint>\n`;
}
