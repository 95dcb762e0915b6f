// The change id of one disk of a domain. A checkpoint is of all disks: its name alone would also fit a disk that has come to stand in the place of
// another, and the changes of the one would be taken for those of the other.

import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import type { DomainDisk } from './domain.ts';

/** `CHECKPOINT.DISK` */
export function markOf(checkpoint: string, disk: DomainDisk): string {
  return `${checkpoint}.${identityOf(disk)}`;
}

/** The checkpoint of a mark, where the mark is one of this disk. */
export function checkpointFor(mark: string, disk: DomainDisk): string | undefined {
  const checkpoint = checkpointOf(mark);
  return mark === markOf(checkpoint, disk) ? checkpoint : undefined;
}

/** The checkpoint of a mark, of whatever disk. */
export function checkpointOf(mark: string): string {
  return mark.split('.', 1)[0] ?? '';
}

/** By the place of its file and, where we can see it, the file itself: two images that change their names are not each other. */
function identityOf({ file }: DomainDisk): string {
  return createHash('sha256')
    .update(`${file}\n${inodeOf(file)}`)
    .digest('hex')
    .slice(0, 16);
}

/** A device node gets another one with every start of the machine. */
function inodeOf(file: string): string {
  try {
    const stat = statSync(file, { bigint: true });
    return stat.isFile() ? String(stat.ino) : '';
  } catch {
    return ''; // not on this machine, or not for our eyes: then its place alone counts
  }
}
