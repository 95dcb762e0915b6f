// A running machine as what is backed up: all of its disks as they are in one moment, taken from its QEMU and given back to it in every case.

import { statSync } from 'node:fs';
import { openNbdReader } from '../../nbd/client/nbd-reader.ts';
import { DIRTY_BITMAP_PREFIX } from '../../nbd/protocol/meta-context.ts';
import { systemClock } from '../../plumbing/clock.ts';
import { ChainkeepError, isChainkeepError, systemCode, throwIfCancelled } from '../../plumbing/errors.ts';
import { refuseIothreads } from '../iothreads.ts';
import { trackChanges } from '../nbd-source.ts';
import type { OpenedSource } from '../open-source.ts';
import type { OpenedVm, VmRequest } from '../open-vm.ts';
import { type PlannedDisk, plannedDisk } from '../planned-disk.ts';
import { isMark, newRunNames, tagOf } from '../run-tag.ts';
import { DEFAULT_SCRATCH, makeScratchFolder, removeDeadFolders } from '../scratch-folder.ts';
import { asAnswer, asList } from './answer-fields.ts';
import { discoverDisks, type VmDisk } from './discover-disks.ts';
import { findGuestAgent } from './find-agent.ts';
import { GuestRest, openGuestAgent } from './guest-agent.ts';
import { removeLeftovers } from './leftovers.ts';
import { endPointInTime, type PointInTime, type PointInTimeParts, removeBitmap, takePointInTime } from './point-in-time.ts';
import { openQmp, type QmpConnection } from './qmp-connection.ts';

/** The first version with all of what is used here. */
const OLDEST = { major: 7, minor: 2 };

/** `request.address` is `qmp:` and the path of the monitor's socket. Throws CONNECTION_FAILED, HYPERVISOR_FAILED, SOURCE_INVALID, BACKUP_IN_PROGRESS. */
export async function openQmpVm(request: VmRequest): Promise<OpenedVm> {
  const path = request.address.slice('qmp:'.length);
  const qmp = await openQmp(path, request.signal);
  try {
    refuseOld(qmp);
    const { major, minor } = qmp.version;
    const iothreads = asList(await qmp.execute('query-iothreads'), 'query-iothreads').length;
    refuseIothreads(`the virtual machine at ${qmp.socket}`, { iothreads, version: `${major}.${minor}` });
    if (!request.isPlanOnly) return await openDisks(qmp, request);
    const disks = (await discoverDisks(qmp)).map((disk) => ({ ...named(disk), source: plannedDisk(planned(disk)) }));
    return { disks, close: async () => qmp.close() };
  } catch (error) {
    qmp.close();
    throw error;
  }
}

function refuseOld({ version, socket }: QmpConnection): void {
  const { major, minor } = version;
  if (major > OLDEST.major || (major === OLDEST.major && minor >= OLDEST.minor)) return;
  throw new ChainkeepError('SOURCE_INVALID', `the QEMU at ${socket} is of version ${major}.${minor}, 7.2 or newer is needed`, {
    advice: 'back up the disks while the machine is shut down, or restart it with a newer QEMU',
    context: { socket, version: `${major}.${minor}` },
  });
}

function named({ number, name, file }: VmDisk): { readonly diskId: number; readonly name: string; readonly place: string } {
  return { diskId: number, name, place: `${name} (${file})` };
}

function planned({ name, size, bitmaps }: VmDisk): PlannedDisk {
  return { name, size, kind: 'qmp', marks: new Set(bitmaps.filter(({ isSound }) => isSound).map((bitmap) => bitmap.name)) };
}

async function openDisks(qmp: QmpConnection, request: VmRequest): Promise<OpenedVm> {
  const { onNotice, signal } = request;
  const place = { base: request.scratch ?? DEFAULT_SCRATCH, vm: qmp.socket, owner: statSync(qmp.socket) };
  const dead = new Set([...(await removeLeftovers(qmp)), ...removeDeadFolders(place)]);
  if (dead.size > 0) onNotice('a killed backup had left an export of this machine behind: it was removed');
  const disks = await discoverDisks(qmp);
  const names = newRunNames(systemClock);
  const rest = await reachAgent(qmp, request, dead.size > 0);
  const scratch = await makeScratchFolder({ ...place, tag: names.tag }).catch((error: unknown) => {
    rest?.close();
    throw error;
  });
  const atRest: PointInTimeParts['atRest'] = (work) => (rest ? rest.around(work) : work());
  const parts: PointInTimeParts = { qmp, disks, names, server: { isOurs: false }, scratch, atRest };
  const kept = new Set<VmDisk>();
  let givenWay: Promise<void> = Promise.resolve();
  let hasGivenWay = false;
  const end = async (): Promise<void> => {
    const unkept = disks.filter((disk) => !kept.has(disk));
    try {
      await givenWay;
      await endAnyhow(parts, unkept, onNotice);
      // Not before QEMU has let go of what is in it: an image without a name would grow unseen.
      scratch.remove();
      if (hasGivenWay) await resume(qmp, onNotice);
    } catch (error) {
      scratch.stopWatching();
      onNotice(`something is left in the virtual machine, the next backup removes it: ${error instanceof Error ? error.message : error}`);
    } finally {
      await rest?.wake();
      rest?.close();
      qmp.close();
    }
  };
  try {
    throwIfCancelled(signal);
    const point = await takePointInTime(parts);
    const broken = new AbortController();
    scratch.watch((error) => {
      broken.abort(error);
      // Before the guest itself finds no room. What goes wrong here goes wrong again at the end, and is told then.
      givenWay = endPointInTime(parts, []).catch(() => undefined);
      hasGivenWay = true;
    });
    const ends = AbortSignal.any([broken.signal, ...(signal ? [signal] : [])]);
    const opened: OpenedVm['disks'][number][] = [];
    try {
      for (const disk of disks) {
        const source = await openDisk({ ...parts, point, dead }, disk, ends, () => kept.add(disk));
        opened.push({ ...named(disk), source });
      }
    } catch (error) {
      await Promise.all(opened.map(({ source }) => source.reader.close()));
      throw error;
    }
    return { disks: opened, close: end };
  } catch (error) {
    await end();
    throw error;
  }
}

/** A guest that was faster than the watch has found no room and was stopped for it; with the point in time given up, its writes go through. */
async function resume(qmp: QmpConnection, onNotice: (notice: string) => void): Promise<void> {
  try {
    const { status } = asAnswer(await qmp.execute('query-status'), 'query-status');
    if (status !== 'io-error') return;
    await qmp.execute('cont');
    onNotice('the guest was stopped because the scratch folder was full; it goes on');
  } catch (error) {
    onNotice(`whether the guest goes on is not known, look at it now: ${error instanceof Error ? error.message : error}`);
  }
}

/** Where a run was killed, it may have been with the guest at rest: then it is woken up first. */
async function reachAgent(qmp: QmpConnection, { guestAgent, onNotice }: VmRequest, wasKilled: boolean): Promise<GuestRest | undefined> {
  const path = guestAgent ?? (await findGuestAgent(qmp));
  const agent = path === undefined ? undefined : await openGuestAgent(path);
  if (!agent) onNotice('no guest agent answers: the backup is as after a power loss');
  const rest = agent && new GuestRest(agent, { onNotice, mayBeFrozen: wasKilled });
  await rest?.wake();
  return rest;
}

/** Over a new connection where the old one is of no use any more. */
async function endAnyhow(parts: PointInTimeParts, unkept: readonly VmDisk[], onNotice: (notice: string) => void): Promise<void> {
  try {
    await endPointInTime(parts, unkept);
  } catch (error) {
    if (!isChainkeepError(error, 'CONNECTION_FAILED')) throw error;
    parts.qmp.close();
    const qmp = await reopen(parts.qmp.socket);
    if (!qmp) {
      onNotice(`the virtual machine at ${parts.qmp.socket} has ended during its backup: was it switched off?`);
      return;
    }
    await endPointInTime({ ...parts, qmp }, unkept).finally(() => qmp.close());
  }
}

/** Undefined for a machine that was switched off: it has forgotten everything by itself. */
async function reopen(socket: string): Promise<QmpConnection | undefined> {
  try {
    return await openQmp(socket);
  } catch (error) {
    const code = error instanceof ChainkeepError ? systemCode(error.cause) : undefined;
    if (code === 'ENOENT' || code === 'ECONNREFUSED') return undefined;
    throw error;
  }
}

interface DiskParts extends PointInTimeParts {
  readonly point: PointInTime;
  readonly dead: ReadonlySet<string>;
}

async function openDisk(parts: DiskParts, disk: VmDisk, signal: AbortSignal, onKept: () => void): Promise<OpenedSource> {
  const { qmp, names, point, dead } = parts;
  const contexts = new Map([...point.bitmaps(disk)].map(([mark, copy]) => [mark, DIRTY_BITMAP_PREFIX + copy]));
  const reader = await openNbdReader(point.address(disk), { contexts: [...contexts.values()], reconnectWithin: 0, signal });
  return {
    reader,
    kind: 'qmp',
    notices: [],
    changes: trackChanges(reader, contexts, 'QEMU'),
    mark: names.mark(disk.number),
    checkUnchanged: () => point.checkKept(disk),
    kept: async ({ needed, known }) => {
      onKept();
      for (const { name } of disk.bitmaps) {
        if (isMark(name) && !needed.has(name) && (known.has(name) || dead.has(tagOf(name) ?? ''))) await removeBitmap(qmp, disk.node, name);
      }
    },
  };
}
