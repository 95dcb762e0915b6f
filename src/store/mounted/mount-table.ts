// The mount table of this process, /proc/self/mountinfo (proc(5)): which mount an open folder is on, and is it the expected one.
// Reading it asks no server, so it never hangs.

import { readFileSync, readlinkSync } from 'node:fs';
import type { ExpectedMount } from './mount-plan.ts';

export interface MountEntry {
  readonly id: number;
  readonly parentId: number;
  /** Folder inside of the mounted file system. */
  readonly root: string;
  readonly mountPoint: string;
  readonly type: string;
  readonly source: string;
}

// 36 35 98:0 /root /mount/point rw,noatime master:1 - nfs4 server:/export rw,vers=4.2
export function parseMountTable(text: string): readonly MountEntry[] {
  return text.split('\n').flatMap((line) => {
    const [front = '', back = ''] = line.split(' - ', 2);
    const [id, parentId, , root, mountPoint] = front.split(' ');
    const [type, source] = back.split(' ');
    if (root === undefined || mountPoint === undefined || type === undefined || source === undefined) return [];
    return [
      {
        id: Number(id),
        parentId: Number(parentId),
        root: plain(root),
        mountPoint: plain(mountPoint),
        type,
        source: plain(source),
      },
    ];
  });
}

/** Blanks, tabs, line breaks and backslashes stand as octal numbers. */
function plain(field: string): string {
  return field.replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

export function readMountTable(): readonly MountEntry[] {
  return parseMountTable(readFileSync('/proc/self/mountinfo', 'utf8'));
}

/** Why an open folder is not what is expected to be mounted there; undefined when it is. */
export interface MountFault {
  readonly what: string;
  /** Something is mounted at exactly this place, and it is another thing. */
  readonly taken: boolean;
}

/** The folder is named by its descriptor: what is on another mount cannot be taken for it, whatever happens to the path meanwhile. */
export function mountFault(descriptor: number, expected: ExpectedMount): MountFault | undefined {
  const table = readMountTable();
  const path = readlinkSync(`/proc/self/fd/${descriptor}`);
  const entry = table.find(({ id }) => id === mountIdOf(descriptor));
  if (!entry) return { what: 'has been unmounted', taken: false };
  if (entry.mountPoint !== path) return { what: `is a folder of ${entry.mountPoint}, and nothing is mounted there`, taken: false };
  if (table.some(({ parentId, mountPoint }) => parentId === entry.id && mountPoint === path)) {
    return { what: 'is hidden by another mount', taken: true };
  }
  if (expected.types.includes(entry.type) && isSource(entry, expected.source)) return undefined;
  return { what: `has ${entry.source} (${entry.type}) mounted, not ${expected.source} (${expected.types.join(' or ')})`, taken: true };
}

export function mountIdOf(descriptor: number): number {
  return Number(/^mnt_id:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${descriptor}`, 'utf8'))?.[1]);
}

/** A folder of a share that is mounted already stands as the share and the folder inside. */
function isSource({ source, root }: MountEntry, expected: string): boolean {
  const wanted = normal(expected);
  if (root === '/' || normal(source).endsWith(root.toLowerCase())) return normal(source) === wanted;
  return normal(source + root) === wanted;
}

/** Servers and shares have no capitals of their own; the path behind an NFS server's colon does. */
function normal(source: string): string {
  const text = source.replaceAll('\\', '/');
  if (text.startsWith('//')) return text.replace(/\/+$/, '').toLowerCase();
  const at = text.indexOf(':/');
  if (at < 0) return text;
  return `${text.slice(0, at).toLowerCase()}:${text.slice(at + 1).replace(/\/+$/, '') || '/'}`;
}
