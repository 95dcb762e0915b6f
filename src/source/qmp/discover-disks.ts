// The disks of a running machine, as its QEMU lists them: what is removable, empty or read-only is no disk to back up.

import { ChainkeepError } from '../../plumbing/errors.ts';
import { type Answer, asAnswer, asList, isSet, odd, sizeOf, textOf } from './answer-fields.ts';
import type { QmpConnection } from './qmp-connection.ts';

export interface VmDisk {
  /** From 0, in the order in which QEMU lists the disks. */
  readonly number: number;
  /** As its administrator knows it: `virtio0`, or the device. */
  readonly name: string;
  /** The file, or what QEMU calls it. */
  readonly file: string;
  readonly node: string;
  /** Bytes. */
  readonly size: number;
  /** Does the image keep bitmaps when the machine is shut down? */
  readonly keepsBitmaps: boolean;
  readonly bitmaps: readonly VmBitmap[];
}

export interface VmBitmap {
  readonly name: string;
  /** Bytes that one bit stands for. */
  readonly granularity: number;
  /** It has recorded every change since it was made, and goes on doing so. */
  readonly isSound: boolean;
  /** QEMU died while it was in use. */
  readonly isBroken: boolean;
}

/** Filters that jobs put above a disk. Bitmaps on them would go with them. */
const JOB_FILTERS: ReadonlySet<string> = new Set([
  'copy-before-write',
  'backup-top',
  'mirror_top',
  'commit_top',
  'copy-on-read',
  'preallocate',
]);

/** Throws SOURCE_INVALID for a machine without disks, BACKUP_IN_PROGRESS where another block job is at work on one. */
export async function discoverDisks(qmp: QmpConnection): Promise<readonly VmDisk[]> {
  const devices = asList(await qmp.execute('query-block'), 'query-block');
  const disks = devices.filter(isDisk).map((device, number) => describe(device, number));
  if (disks.length > 0) return disks;
  throw new ChainkeepError('SOURCE_INVALID', `the virtual machine at ${qmp.socket} has no disk that is written to`, {
    advice: 'removable, empty and read-only drives are left out',
    context: { socket: qmp.socket },
  });
}

function isDisk(device: Answer): boolean {
  const { inserted } = device;
  return !isSet(device, 'removable') && inserted !== undefined && !isSet(asAnswer(inserted, 'query-block'), 'ro');
}

function describe(device: Answer, number: number): VmDisk {
  const what = 'query-block';
  const inserted = asAnswer(device.inserted, what);
  const image = asAnswer(inserted.image, what);
  const driver = textOf(inserted, 'drv', what);
  const name = textOf(device, 'device', what) || deviceName(device) || textOf(inserted, 'node-name', what);
  if (JOB_FILTERS.has(driver)) throw atWork(name, driver);
  const size = sizeOf(image, 'virtual-size', what);
  if (size === 0) throw odd(what, `gives ${name} no size`);
  return {
    number,
    name,
    file: textOf(inserted, 'file', what),
    node: textOf(inserted, 'node-name', what),
    size,
    keepsBitmaps: driver === 'qcow2' && isVersion3(image),
    bitmaps: asList(inserted['dirty-bitmaps'] ?? [], what).flatMap(describeBitmap),
  };
}

/** `/machine/peripheral/vd0/virtio-backend` is the device `vd0`. */
function deviceName({ qdev }: Answer): string | undefined {
  if (typeof qdev !== 'string') return undefined;
  return /^\/machine\/peripheral\/([^/]+)/.exec(qdev)?.[1] ?? qdev;
}

function isVersion3(image: Answer): boolean {
  const specific = asAnswer(image['format-specific'] ?? {}, 'query-block');
  return asAnswer(specific.data ?? {}, 'query-block').compat === '1.1';
}

/** Bitmaps without a name belong to jobs. */
function describeBitmap(bitmap: Answer): readonly VmBitmap[] {
  if (typeof bitmap.name !== 'string') return [];
  const granularity = sizeOf(bitmap, 'granularity', 'query-block');
  const isBroken = isSet(bitmap, 'inconsistent');
  return [{ name: bitmap.name, granularity, isBroken, isSound: isSet(bitmap, 'recording') && !isBroken && !isSet(bitmap, 'busy') }];
}

function atWork(name: string, driver: string): ChainkeepError {
  return new ChainkeepError('BACKUP_IN_PROGRESS', `another job of QEMU is at work on the disk ${name} (${driver})`, {
    advice: 'wait until it has ended, or end it: query-jobs in the monitor names it',
    context: { disk: name, driver },
  });
}
