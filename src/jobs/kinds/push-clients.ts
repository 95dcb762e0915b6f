// The clients that push disks: who is there, who said goodbye, who vanished, and what follows for the job that receives.
// That a client has left says nothing of whether it had written all: only somebody who says so completes a push.

import type { DiskChanges, RefusedChange } from '../../nbd/server/nbd-export.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';

export interface PushRules {
  /** Milliseconds in which a client that vanished must be back. */
  readonly reconnectWithin: number;
  /** Milliseconds without any client: before the first one, and after all have said goodbye. */
  readonly wait: number;
  /** Disks to which something must be written: those of which all that is not written is zeros. */
  readonly wantsWrites: ReadonlySet<number>;
}

interface DiskState {
  clients: number;
  /** A client has been there. */
  met: boolean;
  changed: boolean;
  /** A client vanished, and none has come since. */
  lost: boolean;
}

export class PushClients {
  readonly #rules: PushRules;
  /** Milliseconds that only go forward. */
  readonly #now: () => number;
  readonly #disks = new Map<number, DiskState>();
  /** Since when there is no client at all. */
  #quietSince: number;
  #failure: { readonly error: unknown } | undefined;
  #done = false;

  constructor(diskIds: readonly number[], rules: PushRules, now: () => number) {
    this.#rules = rules;
    this.#now = now;
    this.#quietSince = now();
    for (const id of diskIds) this.#disks.set(id, { clients: 0, met: false, changed: false, lost: false });
  }

  /** A client has come; what is answered is to be called when it has left. */
  join(diskId: number): (saidGoodbye: boolean) => void {
    const disk = this.#disk(diskId);
    if (this.#done) this.fail(new ChainkeepError('INTERNAL', 'a client came to a push that was complete'));
    disk.clients += 1;
    disk.met = true;
    disk.lost = false;
    return (saidGoodbye) => {
      disk.clients -= 1;
      if (!saidGoodbye) disk.lost = true;
      if (this.#clients === 0) this.#quietSince = this.#now();
    };
  }

  /** The changes of a disk, watched: what could not be written as a client wanted it is never made a backup of. */
  watch(diskId: number, changes: DiskChanges): DiskChanges {
    const disk = this.#disk(diskId);
    const watched = async (change: Promise<void>, length: number): Promise<void> => {
      disk.changed ||= length > 0;
      try {
        await change;
      } catch (error) {
        this.fail(error);
        throw error;
      }
    };
    return {
      write: (bytes, offset) => watched(changes.write(bytes, offset), bytes.length),
      zero: (offset, length, keep) => watched(changes.zero(offset, length, keep), length),
      trim: (offset, length) => watched(changes.trim(offset, length), length),
      flush: () => changes.flush(),
    };
  }

  /** A change that does not fit the disk: an agent that does not look at its answers goes on, and what it wanted to write is missing. */
  refused(diskId: number, size: number, { command, offset, length }: RefusedChange): void {
    this.fail(
      new ChainkeepError(
        'PUSH_INCOMPLETE',
        `a ${command} of ${length} bytes at ${offset} does not fit disk ${diskId}, which has ${size} bytes`,
        {
          advice: 'nothing was committed; push again, with the size that the disk has (--size)',
          context: { disk_id: String(diskId), offset, length, size },
        },
      ),
    );
  }

  /** Why the push cannot become a backup any more: the first reason counts. */
  fail(error: unknown): void {
    this.#failure ??= { error };
  }

  /** Throws why the push has failed. */
  assertSound(): void {
    if (this.#failure) throw this.#failure.error;
  }

  /**
   * Is everything there? Only when somebody wants it so, and then not before the last client has said goodbye. Throws CONNECTION_FAILED when it was waited
   * long enough, and PUSH_INCOMPLETE where nobody has pushed anything.
   */
  isComplete(wanted: boolean): boolean {
    this.assertSound();
    const quiet = this.#now() - this.#quietSince;
    const lost = this.#which(({ lost, clients }) => lost && clients === 0);
    if (this.#clients > 0) return false;
    if (lost) {
      if (quiet > this.#rules.reconnectWithin) throw lostClient(lost, this.#rules.reconnectWithin);
      return false;
    }
    if (wanted) {
      this.#assertPushed();
      this.#done = true;
      return true;
    }
    if (quiet > this.#rules.wait) throw this.#waitedTooLong();
    return false;
  }

  #assertPushed(): void {
    const missed = this.#which(({ met }) => !met);
    if (missed) throw incomplete(`no client has been at ${missed}`);
    const untouched = this.#which(({ changed }, id) => !changed && this.#rules.wantsWrites.has(id));
    if (untouched) throw incomplete(`nothing was written to ${untouched}`);
  }

  #waitedTooLong(): ChainkeepError {
    const missed = this.#which(({ met }) => !met);
    const what = missed ? `no client came to ${missed}` : 'nobody said that the push is complete';
    return new ChainkeepError('CONNECTION_FAILED', `${what} within ${seconds(this.#rules.wait)}`, {
      advice: 'nothing was committed; push again, and end it with: chainkeep receive complete JOB (or allow more time with --wait)',
    });
  }

  get #clients(): number {
    return [...this.#disks.values()].reduce((sum, { clients }) => sum + clients, 0);
  }

  #which(fits: (disk: DiskState, id: number) => boolean): string | undefined {
    const found = [...this.#disks].filter(([id, disk]) => fits(disk, id)).map(([id]) => `disk ${id}`);
    return found.length > 0 ? found.join(', ') : undefined;
  }

  #disk(diskId: number): DiskState {
    const disk = this.#disks.get(diskId);
    if (!disk) throw new ChainkeepError('INTERNAL', `disk ${diskId} is not pushed here`);
    return disk;
  }
}

function lostClient(disks: string, within: number): ChainkeepError {
  return new ChainkeepError(
    'CONNECTION_FAILED',
    `a client of ${disks} vanished without a goodbye, and none came back within ${seconds(within)}`,
    {
      advice: 'nothing was committed; push again (or allow more time with --reconnect-within)',
    },
  );
}

function incomplete(what: string): ChainkeepError {
  return new ChainkeepError('PUSH_INCOMPLETE', `${what}: that is no disk to keep`, {
    advice: 'nothing was committed; connect to each disk and write all of it, zeros too, before it is completed',
  });
}

function seconds(milliseconds: number): string {
  return `${Math.round(milliseconds / 1000)} s`;
}
