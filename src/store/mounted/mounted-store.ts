// A mounted share as a blob store. No call on it is made in this process: a server that hangs would take its threads, and with them everything else.
// A repository's process that was lost is replaced at the next use, not before a pause; what was open in it stays lost.

import { isAbsolute } from 'node:path';
import type { ByteSink } from '../../plumbing/byte-sink.ts';
import type { ByteSource } from '../../plumbing/byte-source.ts';
import { systemClock } from '../../plumbing/clock.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { pauseAfter } from '../../plumbing/pause.ts';
import { checkBlobName, checkBlobPrefix } from '../blob-name.ts';
import type { BlobInfo, BlobProtection, BlobStore, Leftover, PutOptions, StoreCapabilities, StoreCapacity } from '../blob-store.ts';
import type { MountSettings } from './mount-plan.ts';
import { MountedSink } from './mounted-sink.ts';
import { MountedSource } from './mounted-source.ts';
import { abandonedProcesses, StorageChild } from './storage-child.ts';

/** Milliseconds until the process runs: no server has a part in that, only the load of this machine. */
const PROCESS_LIMIT_MS = 30_000;
/** Until the share is mounted and answers. */
const START_LIMIT_MS = 7500;
/** Of these the mount itself. */
const MOUNT_LIMIT_MS = 6000;
const STOP_LIMIT_MS = 8000;
/** For all of an opening together, with something to spare. */
export const OPEN_LIMIT_MS = PROCESS_LIMIT_MS + START_LIMIT_MS + STOP_LIMIT_MS;
/** Each keeps some memory until its server answers. More are not started. */
const MOST_ABANDONED = 16;

export interface OpenMountedOptions {
  readonly create: boolean;
  /** Server and share, for messages. */
  readonly place: string;
  /** Is told of the folders that were made, to be taken back where they are empty and nothing is mounted on them. */
  readonly onMade?: (folder: string) => void;
}

class MountedStore implements BlobStore {
  readonly place: string;
  readonly #settings: MountSettings;
  #capabilities: StoreCapabilities;
  #child: Promise<StorageChild>;
  #failures = 0;
  #nextTry = 0;
  #numbers = 0;
  #closed = false;

  constructor(settings: MountSettings, options: OpenMountedOptions, first: StartedChild) {
    this.#settings = settings;
    this.place = options.place;
    this.#capabilities = first.capabilities;
    this.#child = Promise.resolve(first.child);
  }

  get capabilities(): StoreCapabilities {
    return this.#capabilities;
  }

  async *list(prefix: string): AsyncGenerator<BlobInfo> {
    checkBlobPrefix(prefix);
    const child = await this.#ready();
    const listing = this.#number();
    let page = await child.ask<'list'>({ op: 'list', listing, prefix });
    try {
      for (;;) {
        yield* page.blobs;
        if (page.ended) return;
        page = await child.ask<'more'>({ op: 'more', listing });
      }
    } finally {
      if (!page.ended && !child.loss) await child.ask<'leave'>({ op: 'leave', listing });
    }
  }

  async stat(name: string): Promise<BlobInfo | undefined> {
    checkBlobName(name);
    return (await (await this.#ready()).ask<'stat'>({ op: 'stat', name })) ?? undefined;
  }

  async open(name: string): Promise<ByteSource> {
    checkBlobName(name);
    const child = await this.#ready();
    const number = this.#number();
    const { size } = await child.ask<'open'>({ op: 'open', source: number, name });
    return new MountedSource(child, { name, size, number });
  }

  async put(name: string, options: PutOptions = {}): Promise<ByteSink> {
    checkBlobName(name);
    const child = await this.#ready();
    const number = this.#number();
    await child.ask<'put'>({ op: 'put', sink: number, name, options });
    return new MountedSink(child, { name, number, headLength: options.headLength ?? 0 });
  }

  async delete(name: string): Promise<void> {
    checkBlobName(name);
    await (await this.#ready()).ask<'delete'>({ op: 'delete', name });
  }

  async protect(name: string, protection: BlobProtection): Promise<void> {
    checkBlobName(name);
    if (this.#capabilities.retention === 'none') throw notProtected(this.place);
    await (await this.#ready()).ask<'protect'>({ op: 'protect', name, protection });
  }

  async protectionOf(name: string): Promise<BlobProtection | undefined> {
    checkBlobName(name);
    if (this.#capabilities.retention === 'none') return undefined;
    return (await (await this.#ready()).ask<'protection'>({ op: 'protection', name })) ?? undefined;
  }

  async release(name: string): Promise<void> {
    checkBlobName(name);
    if (this.#capabilities.retention === 'none') return;
    await (await this.#ready()).ask<'unprotect'>({ op: 'unprotect', name });
  }

  async sweep(prefix: string, isDead: (leftover: Leftover) => boolean): Promise<readonly Leftover[]> {
    checkBlobPrefix(prefix);
    const child = await this.#ready();
    const dead = (await child.ask<'leftovers'>({ op: 'leftovers', prefix })).filter((leftover) => isDead(leftover));
    return dead.length === 0 ? [] : child.ask<'sweep'>({ op: 'sweep', prefix, dead });
  }

  async capacity(): Promise<StoreCapacity | undefined> {
    if (!this.#capabilities.capacity) return undefined;
    return (await (await this.#ready()).ask<'capacity'>({ op: 'capacity' })) ?? undefined;
  }

  async now(): Promise<number | undefined> {
    return undefined; // times of files come from the server, but nothing asks it for the present one
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await (await this.#child).stop(STOP_LIMIT_MS);
  }

  #number(): number {
    this.#numbers += 1;
    return this.#numbers;
  }

  /** The process to ask; a new one in the place of one that was lost, when the pause after that is over. */
  async #ready(): Promise<StorageChild> {
    for (;;) {
      if (this.#closed) throw new ChainkeepError('INTERNAL', `${this.place} is used after it was closed`);
      const current = this.#child;
      const child = await current;
      if (!child.loss) return child;
      if (current !== this.#child) continue; // of many who found it lost, one has replaced it
      const now = systemClock.monotonic();
      if (now < Math.max(child.loss.at + pauseAfter(0), this.#nextTry)) throw child.loss.error;
      this.#failures += 1;
      this.#nextTry = now + pauseAfter(this.#failures);
      return this.#replace(child);
    }
  }

  async #replace(lost: StorageChild): Promise<StorageChild> {
    const started = startChild(this.#settings, { create: false, place: this.place });
    // Where it cannot be started, who waits for it learns why the last one was lost.
    this.#child = started.then(
      ({ child }) => child,
      () => lost,
    );
    const { child, capabilities } = await started;
    this.#failures = 0;
    this.#nextTry = 0;
    this.#capabilities = capabilities;
    return child;
  }
}

function notProtected(place: string): ChainkeepError {
  return new ChainkeepError('NOT_SUPPORTED', `files on ${place} cannot be protected: this way of mounting keeps no modes`, {
    advice: 'locks are still kept by Chainkeep itself; for more let the kernel mount the share',
    context: { place },
  });
}

interface StartedChild {
  readonly child: StorageChild;
  readonly capabilities: StoreCapabilities;
  readonly madeMountPoint: boolean;
}

async function startChild({ plan, password }: MountSettings, { create, place }: OpenMountedOptions): Promise<StartedChild> {
  if (abandonedProcesses() >= MOST_ABANDONED) {
    throw new ChainkeepError('REPOSITORY_OFFLINE', `${abandonedProcesses()} processes hang in calls on servers that do not answer`, {
      advice: 'no more are started before some of them end: bring the servers back, or unmount their shares with umount -f',
      retryable: true,
      context: { place },
    });
  }
  const child = new StorageChild(place, PROCESS_LIMIT_MS);
  try {
    await child.ask<'hello'>({ op: 'hello' });
    child.setLimit(START_LIMIT_MS);
    const secret = password === undefined ? {} : { password: password.reveal() };
    const answer = await child.ask<'start'>({ op: 'start', plan, create, limit: MOUNT_LIMIT_MS, ...secret });
    child.setLimit(plan.timeLimit);
    return { child, ...answer };
  } catch (error) {
    await child.stop(STOP_LIMIT_MS);
    throw error;
  }
}

/** Throws REPOSITORY_OFFLINE where the server or the mount is not there, MOUNT_FAILED where mount(8) refuses. */
export async function openMountedStore(settings: MountSettings, options: OpenMountedOptions): Promise<BlobStore> {
  const { mountPoint } = settings.plan;
  if (!isAbsolute(mountPoint)) throw new ChainkeepError('CONFIG_INVALID', `a mount point must be absolute: ${mountPoint}`);
  const started = await startChild(settings, options);
  if (started.madeMountPoint) options.onMade?.(mountPoint);
  return new MountedStore(settings, options, started);
}
