// Names inside a repository; docs/format/repository.md describes them. Ids are ours and are the only things that become names.

import { isId, isoTime, timeOfId } from '../plumbing/clock.ts';
import { assert } from '../plumbing/errors.ts';

export const MARKER_NAME = 'chainkeep-repository.json';
const DISKS_PREFIX = 'vms/';

export interface DiskPlace {
  readonly vmContextId: string;
  readonly diskId: number;
}

/** `vms/<vm_context_id>/disk-<n>/` */
export function diskFolder({ vmContextId, diskId }: DiskPlace): string {
  assert(isId(vmContextId), `not an id: ${vmContextId}`);
  assert(Number.isSafeInteger(diskId) && diskId >= 0, `not a disk number: ${diskId}`);
  return `${DISKS_PREFIX}${vmContextId}/disk-${diskId}/`;
}

export const imageFile = (backupId: string): string => `${backupId}.qcow2`;
export const digestsFile = (backupId: string, generation: number): string => `${backupId}.${generation}.digests`;
export const sidecarFile = (backupId: string): string => `${backupId}.json`;

/** `until`: milliseconds since 1970. The name says all. */
export const lockFile = (backupId: string, until: number): string => `${backupId}.lock.${compactTime(until)}`;
export const holdFile = (backupId: string, number: number): string => `${backupId}.hold.${number}.json`;
export const liftedFile = (backupId: string, number: number): string => `${backupId}.hold.${number}.lifted.json`;

/** `20270122t144539287`, as ids begin. */
function compactTime(milliseconds: number): string {
  return isoTime(milliseconds)
    .replace(/[-:.Z]/g, '')
    .toLowerCase();
}

/** The date in the name of a lock, milliseconds since 1970; undefined for what is no date. */
export function parseCompactTime(text: string): number | undefined {
  if (!/^\d{8}t\d{9}$/.test(text)) return undefined;
  const time = timeOfId(`${text}-`);
  return compactTime(time) === text ? time : undefined;
}

export type FileKind = 'image' | 'digests' | 'sidecar';

export interface PlacedFile {
  readonly place: DiskPlace;
  readonly backupId: string;
  readonly kind: FileKind;
  /** Only of digests. */
  readonly generation?: number;
}

const DISK_FILE = /^vms\/([a-z0-9-]{1,64})\/disk-(\d{1,9})\/([a-z0-9-]{1,64})\.(?:(qcow2)|(json)|(?:(\d{1,16})\.digests))$/;

/** What a blob name means, or undefined when it is none of ours. */
export function parseFileName(name: string): PlacedFile | undefined {
  const match = DISK_FILE.exec(name);
  if (!match) return undefined;
  const [, vmContextId = '', disk = '', backupId = '', image, sidecar, generation] = match;
  if (!isId(vmContextId) || !isId(backupId) || String(Number(disk)) !== disk) return undefined;
  const place = { vmContextId, diskId: Number(disk) };
  if (image) return { place, backupId, kind: 'image' };
  if (sidecar) return { place, backupId, kind: 'sidecar' };
  return { place, backupId, kind: 'digests', generation: Number(generation) };
}

const PROTECTION_FILE = /^vms\/([a-z0-9-]{1,64})\/disk-(\d{1,9})\/([a-z0-9-]{1,64})\.(lock|hold)\.(.+)$/;

export interface ProtectionFile {
  readonly place: DiskPlace;
  readonly backupId: string;
  readonly kind: 'lock' | 'hold';
  /** What follows in the name: the end of a lock, the number of a hold. */
  readonly rest: string;
}

/** The name of a lock or of a hold; whether `rest` makes sense is not looked at: what says "protected" must never be overlooked. */
export function parseProtectionName(name: string): ProtectionFile | undefined {
  const [, vmContextId = '', disk = '', backupId = '', kind, rest = ''] = PROTECTION_FILE.exec(name) ?? [];
  if (!isId(vmContextId) || !isId(backupId) || String(Number(disk)) !== disk) return undefined;
  if (kind !== 'lock' && kind !== 'hold') return undefined;
  return { place: { vmContextId, diskId: Number(disk) }, backupId, kind, rest };
}

const JOURNAL_FILE = /^vms\/[a-z0-9-]{1,64}\/disk-\d{1,9}\/[a-z0-9-]{1,64}\.\d{1,16}\.merge\.json$/;

/** Is this a name of this format, in use or reserved? Everything else in a repository is somebody else's. */
export function isOurs(name: string): boolean {
  return name === MARKER_NAME || parseFileName(name) !== undefined || parseProtectionName(name) !== undefined || JOURNAL_FILE.test(name);
}

export const EVERY_DISK = DISKS_PREFIX;
