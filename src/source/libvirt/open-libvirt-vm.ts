// A domain of libvirt as what is backed up: all of its disks as they are in one moment, with a checkpoint that begins there for the next backup.

import { rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { openNbdReader } from '../../nbd/client/nbd-reader.ts';
import { DIRTY_BITMAP_PREFIX } from '../../nbd/protocol/meta-context.ts';
import { systemClock } from '../../plumbing/clock.ts';
import { ChainkeepError, isChainkeepError, throwIfCancelled } from '../../plumbing/errors.ts';
import { refuseIothreads } from '../iothreads.ts';
import { trackChanges } from '../nbd-source.ts';
import type { KeptMarks, OpenedSource } from '../open-source.ts';
import type { OpenedVm, VmRequest } from '../open-vm.ts';
import { plannedDisk } from '../planned-disk.ts';
import { isMark, isRunning, newRunNames, type RunNames, tagOf } from '../run-tag.ts';
import { DEFAULT_SCRATCH, makeScratchFolder, removeDeadFolders, type ScratchFolder } from '../scratch-folder.ts';
import { backupXml, checkpointXml, EXPORT_BITMAP, exportName } from './backup-xml.ts';
import { checkpointFor, checkpointOf, markOf } from './disk-mark.ts';
import {
  type Domain,
  type DomainDisk,
  endRunningBackup,
  listCheckpoints,
  readDiskSize,
  readDomain,
  readQemuVersion,
  readRunningBackup,
} from './domain.ts';
import { domainOption, virsh } from './virsh.ts';

/** `request.address` is `libvirt:` and the name of the domain. Throws SOURCE_NOT_FOUND, SOURCE_INVALID, CONNECTION_FAILED, HYPERVISOR_FAILED, BACKUP_IN_PROGRESS. */
export async function openLibvirtVm(request: VmRequest): Promise<OpenedVm> {
  const domain = await readDomain(request.address.slice('libvirt:'.length));
  const { iothreads } = domain;
  if (iothreads > 0) refuseIothreads(`the domain ${domain.name}`, { iothreads, version: await readQemuVersion() });
  if (request.isPlanOnly) return planVm(domain);
  const place = { base: request.scratch ?? DEFAULT_SCRATCH, vm: `libvirt ${domain.uuid}`, owner: domain.owner };
  const dead = new Set([...(await abortLeftover(domain)), ...removeDeadFolders(place)]);
  if (dead.size > 0) {
    request.onNotice('a killed backup had left a job of this machine behind: it was ended');
    await thaw(domain.name, () => undefined);
  }
  const names = newRunNames(systemClock);
  const scratch = await makeScratchFolder({ ...place, tag: names.tag });
  const run = new DomainRun({ domain, request, names, scratch, dead });
  try {
    throwIfCancelled(request.signal);
    await run.begin();
    return { disks: await run.openDisks(), close: () => run.end() };
  } catch (error) {
    await run.end();
    throw error;
  }
}

const named = ({ number, name, file }: DomainDisk) => ({ diskId: number, name, place: `${name} (${file})` });

async function planVm({ name, disks }: Domain): Promise<OpenedVm> {
  const checkpoints = new Set((await listCheckpoints(name)).filter(isMark));
  const planned = disks.map(async (disk) => {
    const marks = new Set(disk.keepsBitmaps ? [...checkpoints].map((checkpoint) => markOf(checkpoint, disk)) : []);
    return { ...named(disk), source: plannedDisk({ name: disk.name, size: await readDiskSize(name, disk.name), kind: 'libvirt', marks }) };
  });
  return { disks: await Promise.all(planned), close: async () => undefined };
}

/** Ends the job of a run that was killed; answers its tag. Throws BACKUP_IN_PROGRESS where it is one of somebody who lives. */
async function abortLeftover({ name }: Domain): Promise<readonly string[]> {
  const files = await readRunningBackup(name);
  if (!files) return [];
  const tag = tagOf(basename(dirname(files[0] ?? '')));
  if (tag === undefined || isRunning(tag)) {
    throw new ChainkeepError('BACKUP_IN_PROGRESS', `another backup of the domain ${name} is going on`, {
      advice: 'wait until it has ended, or end it: virsh domjobabort DOMAIN',
      context: { domain: name },
    });
  }
  await endRunningBackup(name);
  return [tag];
}

/** Libvirt has nobody to ask in the guest: nothing there was frozen. */
const NO_AGENT = /agent is not (configured|connected)|argument unsupported|not supported/i;

/** False where it could not; then a notice was given. */
async function thaw(domain: string, onNotice: (notice: string) => void): Promise<boolean> {
  try {
    await virsh('domfsthaw', domainOption(domain));
    return true;
  } catch (error) {
    onNotice(`the guest could not be thawed, look at it now: ${messageOf(error)}`);
    return false;
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

interface DomainRunParts {
  readonly domain: Domain;
  readonly request: VmRequest;
  readonly names: RunNames;
  readonly scratch: ScratchFolder;
  /** Runs that were killed. */
  readonly dead: ReadonlySet<string>;
}

class DomainRun {
  readonly #parts: DomainRunParts;
  readonly #broken = new AbortController();
  /** Number of a disk → the checkpoint that its changes are counted from. */
  #since: ReadonlyMap<number, string> = new Map();
  #hasCheckpoint = false;
  /** By us. */
  #mayBeFrozen = false;
  #isGoingOn = false;
  #kept: KeptMarks[] = [];

  constructor(parts: DomainRunParts) {
    this.#parts = parts;
  }

  async begin(): Promise<void> {
    const { domain, request } = this.#parts;
    const checkpoints = new Set(await listCheckpoints(domain.name));
    const since = new Map<number, string>();
    for (const disk of domain.disks) {
      const mark = disk.keepsBitmaps ? await request.parentMark(disk.number) : undefined;
      const checkpoint = mark === undefined ? undefined : checkpointFor(mark, disk);
      if (checkpoint !== undefined && checkpoints.has(checkpoint)) since.set(disk.number, checkpoint);
    }
    await this.#freeze();
    try {
      await this.#beginAnyhow(since);
    } finally {
      await this.#wake();
    }
    this.#parts.scratch.watch((error) => {
      this.#broken.abort(error);
      // Before the guest itself finds no room. What goes wrong here goes wrong again at the end, and is told then.
      virsh('domjobabort', domainOption(domain.name)).catch(() => undefined);
    });
  }

  async #freeze(): Promise<void> {
    const { domain, request } = this.#parts;
    try {
      // Also when it fails: the agent may be at it still, or be done with it too late to tell.
      this.#mayBeFrozen = true;
      await virsh('domfsfreeze', domainOption(domain.name));
    } catch (error) {
      if (!isChainkeepError(error, 'HYPERVISOR_FAILED')) throw error;
      request.onNotice(`the guest was not brought to rest, the backup is as after a power loss: ${error.context.said}`);
      if (NO_AGENT.test(String(error.context.said))) this.#mayBeFrozen = false;
      await this.#wake();
    }
  }

  /** Where it may be frozen. Called once more at the end: a guest that was busy may answer by then. */
  async #wake(): Promise<void> {
    const { domain, request } = this.#parts;
    if (this.#mayBeFrozen) this.#mayBeFrozen = !(await thaw(domain.name, request.onNotice));
  }

  /** With checkpoints where libvirt can; where it finds one of them broken, or can make none, all is read, and it is said. */
  async #beginAnyhow(since: ReadonlyMap<number, string>): Promise<void> {
    const { onNotice } = this.#parts.request;
    try {
      return await this.#beginWith(since, this.#canHaveCheckpoint());
    } catch (error) {
      if (!isAboutCheckpoints(error)) throw error;
      onNotice(`libvirt cannot use its checkpoints, so all is read: ${messageOf(error)}`);
    }
    try {
      return await this.#beginWith(new Map(), this.#canHaveCheckpoint());
    } catch (error) {
      if (!isAboutCheckpoints(error)) throw error;
      onNotice(`libvirt can make no checkpoint, so the next backup reads all as well: ${messageOf(error)}`);
    }
    await this.#beginWith(new Map(), false);
  }

  #canHaveCheckpoint(): boolean {
    return this.#parts.domain.disks.some(({ keepsBitmaps }) => keepsBitmaps);
  }

  async #beginWith(since: ReadonlyMap<number, string>, withCheckpoint: boolean): Promise<void> {
    const { domain, names, scratch } = this.#parts;
    const { disks } = domain;
    const document = backupXml({ disks, socket: this.#socket, scratchFolder: scratch.path, since });
    const options = ['--backupxml', this.#write('backup.xml', document)];
    if (withCheckpoint) options.push('--checkpointxml', this.#write('checkpoint.xml', checkpointXml(names.checkpoint, disks)));
    await virsh('backup-begin', domainOption(domain.name), ...options);
    this.#isGoingOn = true;
    this.#hasCheckpoint = withCheckpoint;
    this.#since = since;
  }

  get #socket(): string {
    return join(this.#parts.scratch.path, 'nbd.sock');
  }

  #write(name: string, text: string): string {
    const path = join(this.#parts.scratch.path, name);
    // Made anew: the folder belongs to the user of the guest, who could have put a link there.
    rmSync(path, { force: true });
    writeFileSync(path, text, { mode: 0o600, flag: 'wx' });
    return path;
  }

  async openDisks(): Promise<OpenedVm['disks']> {
    const { domain, request } = this.#parts;
    const signal = AbortSignal.any([this.#broken.signal, ...(request.signal ? [request.signal] : [])]);
    const opened: OpenedVm['disks'][number][] = [];
    try {
      for (const disk of domain.disks) opened.push({ ...named(disk), source: await this.#openDisk(disk, signal) });
    } catch (error) {
      await Promise.all(opened.map(({ source }) => source.reader.close()));
      throw error;
    }
    return opened;
  }

  async #openDisk(disk: DomainDisk, signal: AbortSignal): Promise<OpenedSource> {
    const address = `nbd+unix:///${exportName(disk)}?socket=${encodeURIComponent(this.#socket)}`;
    const checkpoint = this.#since.get(disk.number);
    const contexts = new Map(checkpoint === undefined ? [] : [[markOf(checkpoint, disk), DIRTY_BITMAP_PREFIX + EXPORT_BITMAP]]);
    const reader = await openNbdReader(address, { contexts: [...contexts.values()], reconnectWithin: 0, signal });
    return {
      reader,
      kind: 'libvirt',
      notices: [],
      changes: trackChanges(reader, contexts, 'libvirt'),
      ...(this.#hasCheckpoint && disk.keepsBitmaps && { mark: markOf(this.#parts.names.checkpoint, disk) }),
      checkUnchanged: () => this.#checkKept(disk),
      kept: async (marks) => {
        this.#kept.push(marks);
      },
    };
  }

  async #checkKept({ name }: DomainDisk): Promise<void> {
    const { domain, scratch } = this.#parts;
    const files = await readRunningBackup(domain.name);
    if (files?.some((file) => dirname(file) === scratch.path)) return;
    throw new ChainkeepError('SOURCE_CHANGED', `libvirt has ended the job that kept the state of the disk ${name}`, {
      advice: 'nothing was committed; the log of the domain may say why',
      context: { domain: domain.name, disk: name },
    });
  }

  /** Never throws: what goes wrong is a notice. */
  async end(): Promise<void> {
    const { domain, request, scratch } = this.#parts;
    await this.#wake();
    try {
      if (this.#isGoingOn) await this.#endJob();
      for (const name of await this.#uselessCheckpoints()) {
        await virsh('checkpoint-delete', domainOption(domain.name), '--checkpointname', name);
      }
    } catch (error) {
      request.onNotice(`something is left in libvirt, the next backup of the domain removes it: ${messageOf(error)}`);
    } finally {
      scratch.remove();
    }
  }

  async #endJob(): Promise<void> {
    const { domain, scratch } = this.#parts;
    const files = await readRunningBackup(domain.name);
    if (files?.some((file) => dirname(file) === scratch.path)) await endRunningBackup(domain.name);
  }

  /** A checkpoint is of all disks: the new one stays when one of them was kept with it, the old ones go when all were. */
  async #uselessCheckpoints(): Promise<readonly string[]> {
    const { domain, names, dead } = this.#parts;
    if (this.#kept.length === 0) return this.#hasCheckpoint ? [names.checkpoint] : [];
    if (this.#kept.length < domain.disks.length) return [];
    const needed = new Set(this.#kept.flatMap((marks) => [...marks.needed].map(checkpointOf)));
    const known = new Set(this.#kept.flatMap((marks) => [...marks.known].map(checkpointOf)));
    const all = await listCheckpoints(domain.name);
    return all.filter((name) => isMark(name) && !needed.has(name) && (known.has(name) || dead.has(tagOf(name) ?? '')));
  }
}

function isAboutCheckpoints(error: unknown): boolean {
  return isChainkeepError(error, 'HYPERVISOR_FAILED') && /checkpoint|bitmap|snapshot/i.test(String(error.context.said));
}
