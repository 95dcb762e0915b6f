// The one moment of all disks of a machine: an image beside each disk takes what the guest overwrites from then on, a bitmap begins to record what
// changes, and what older bitmaps have recorded is copied, all in one transaction of QEMU. Then the state of that moment is exported over NBD.

import { join } from 'node:path';
import { ChainkeepError, isChainkeepError } from '../../plumbing/errors.ts';
import { byAge, isMark, type RunNames, tagOf } from '../run-tag.ts';
import type { ScratchFolder } from '../scratch-folder.ts';
import type { VmBitmap, VmDisk } from './discover-disks.ts';
import { jobNames, removeOf } from './leftovers.ts';
import type { QmpConnection } from './qmp-connection.ts';

/** Of ours, on one disk. Repositories that a disk is no longer backed up to would leave theirs for ever. */
const MOST_MARKS = 16;

export interface PointInTime {
  /** Where the disk of this number is served, read-only, as it was in that moment. */
  address(disk: VmDisk): string;
  /** From the mark of an older backup to the name of the copied bitmap that says what changed since. */
  bitmaps(disk: VmDisk): ReadonlyMap<string, string>;
  /** Throws when the state of that moment is not kept any more. */
  checkKept(disk: VmDisk): Promise<void>;
}

/** What a run has done to a machine, to be undone when it ends. */
export interface RunInVm {
  readonly qmp: QmpConnection;
  readonly names: RunNames;
  /** Is it this run that has started the NBD server? */
  readonly server: { isOurs: boolean };
}

export interface PointInTimeParts extends RunInVm {
  readonly disks: readonly VmDisk[];
  readonly scratch: ScratchFolder;
  /** Runs the transaction with the guest at rest, where an agent answers. */
  readonly atRest: (transaction: () => Promise<unknown>) => Promise<unknown>;
}

/** On failure everything is as it was before, but for what QEMU itself does not end: that is `endPointInTime`'s. */
export async function takePointInTime(parts: PointInTimeParts): Promise<PointInTime> {
  const { qmp, disks, names, server, scratch, atRest } = parts;
  const copies = new Map<number, readonly Copy[]>();
  for (const disk of disks) {
    const useless = new Set(uselessMarks(disk));
    for (const name of useless) await removeBitmap(qmp, disk.node, name);
    copies.set(disk.number, copiesOf(disk, names, useless));
  }
  for (const { number, node, size } of disks) {
    const filename = await scratch.createImage(`disk-${number}.qcow2`, size);
    // It is of no use after a crash of the machine: nothing of it is ever flushed.
    const cache = { 'no-flush': true };
    await qmp.execute('blockdev-add', {
      ...{ driver: 'qcow2', 'node-name': names.node(number), backing: node, cache },
      file: { driver: 'file', filename, cache },
    });
  }
  const actions = disks.flatMap((disk) => transactionFor(disk, names, copies.get(disk.number) ?? []));
  await atRest(() => qmp.execute('transaction', { actions }));
  const socket = join(scratch.path, 'nbd.sock');
  await startServer(qmp, socket);
  server.isOurs = true;
  for (const { number, node } of disks) {
    await qmp.execute('block-export-add', {
      ...{ type: 'nbd', id: names.job(number), 'node-name': names.node(number), name: exportName(number), writable: false },
      bitmaps: (copies.get(number) ?? []).map(({ copy }) => ({ node, name: copy })),
    });
  }
  return {
    address: ({ number }) => `nbd+unix:///${exportName(number)}?socket=${encodeURIComponent(socket)}`,
    bitmaps: ({ number }) => new Map((copies.get(number) ?? []).map(({ bitmap, copy }) => [bitmap.name, copy])),
    checkKept: async ({ number, name }) => {
      if ((await jobNames(qmp)).includes(names.job(number))) return;
      throw notKept(name);
    },
  };
}

/** Ends the export and everything behind it, and forgets the bitmaps that began with it, where no backup was kept. */
export async function endPointInTime({ qmp, names, server }: RunInVm, unkept: readonly VmDisk[]): Promise<void> {
  await removeOf(qmp, { isOurs: (name) => tagOf(name) === names.tag, isServerOurs: server.isOurs });
  for (const { number, node } of unkept) await removeBitmap(qmp, node, names.mark(number));
}

export async function removeBitmap(qmp: QmpConnection, node: string, name: string): Promise<void> {
  try {
    await qmp.execute('block-dirty-bitmap-remove', { node, name });
  } catch (error) {
    // Before the transaction there is none.
    if (!isChainkeepError(error, 'HYPERVISOR_FAILED') || !String(error.context.desc).includes('not found')) throw error;
  }
}

interface Copy {
  readonly bitmap: VmBitmap;
  readonly copy: string;
}

function copiesOf(disk: VmDisk, names: RunNames, useless: ReadonlySet<string>): readonly Copy[] {
  const useful = disk.bitmaps.filter(({ name, isSound }) => isMark(name) && isSound && !useless.has(name));
  return useful.map((bitmap, index) => ({ bitmap, copy: names.copy(disk.number, index) }));
}

/** Bitmaps of ours that QEMU calls inconsistent, as after its own death, will never be of use again; nor will there be more than some. */
function uselessMarks({ bitmaps }: VmDisk): readonly string[] {
  const marks = bitmaps.filter(({ name }) => isMark(name));
  const sound = marks.filter(({ isBroken }) => !isBroken).map(({ name }) => name);
  const old = sound.toSorted(byAge).slice(0, Math.max(0, sound.length - MOST_MARKS + 1));
  return [...marks.filter(({ isBroken }) => isBroken).map(({ name }) => name), ...old];
}

function transactionFor({ number, node, keepsBitmaps }: VmDisk, names: RunNames, copies: readonly Copy[]): object[] {
  return [
    { type: 'block-dirty-bitmap-add', data: { node, name: names.mark(number), persistent: keepsBitmaps } },
    // The old bitmaps go on: should this backup fail, they still know everything since theirs.
    ...copies.flatMap(({ bitmap, copy }) => [
      { type: 'block-dirty-bitmap-add', data: { node, name: copy, granularity: bitmap.granularity, disabled: true } },
      { type: 'block-dirty-bitmap-merge', data: { node, target: copy, bitmaps: [bitmap.name] } },
    ]),
    { type: 'blockdev-backup', data: { 'job-id': names.job(number), device: node, target: names.node(number), sync: 'none' } },
  ];
}

function exportName(number: number): string {
  return `disk-${number}`;
}

async function startServer(qmp: QmpConnection, path: string): Promise<void> {
  try {
    await qmp.execute('nbd-server-start', { addr: { type: 'unix', data: { path } } });
  } catch (error) {
    if (isChainkeepError(error, 'HYPERVISOR_FAILED') && String(error.context.desc).includes('already running')) throw serverRuns(error);
    throw error;
  }
}

function serverRuns(cause: unknown): ChainkeepError {
  return new ChainkeepError('HYPERVISOR_FAILED', 'this QEMU serves exports of somebody else, and it has one NBD server only', {
    advice: 'end the other backup or export first (nbd-server-stop in its monitor)',
    cause,
  });
}

function notKept(name: string): ChainkeepError {
  return new ChainkeepError('SOURCE_CHANGED', `QEMU has ended the job that kept the state of the disk ${name}`, {
    advice: 'nothing was committed; the log of the virtual machine may say why',
    context: { disk: name },
  });
}
