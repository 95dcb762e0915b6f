// What a disk may hold after the power went: the operations of a recording up to a cut, of which everything that was synced is there and
// of the rest any part. The model is that of ext4 and xfs: bytes of a file are durable after fsync of the file, a name (create, link,
// rename, unlink, mkdir, rmdir) after fsync of its folder, and nothing else is. Unsynced names of one folder may be there out of order,
// those of the same name in order. Unsynced writes may be there in part, in pieces of 512 or 4096 bytes, and where a file grew and its
// bytes did not come, there are zeros.

import { createHash } from 'node:crypto';
import type { Random } from '../random.ts';
import type { Move, Naming, Operation, Recording, Resize, Write } from './operation.ts';

/** What happens to what was not synced: nothing of it is there, all of it, whole writes, or pieces of that many bytes. */
export type Loss = 'all' | 'none' | 'writes' | 512 | 4096;

export interface Crash {
  /** Operations that were done before the power went. */
  readonly cut: number;
  readonly data: Loss;
  readonly names: 'all' | 'none' | 'some';
  /** Chance of an unsynced write, piece or name to be there all the same. */
  readonly luck: number;
}

const DATA: readonly Loss[] = ['all', 'none', 'writes', 'writes', 512, 512, 512, 4096, 4096, 4096];
const LUCK = [0.1, 0.3, 0.5, 0.7, 0.9] as const;

/** Cuts to draw from: each list as often as the others. */
export function drawCrash(cuts: readonly (readonly number[])[], random: Random): Crash {
  const cut = random.pick(random.pick(cuts));
  return { cut, data: random.pick(DATA), names: random.pick(['all', 'none', 'some', 'some', 'some']), luck: random.pick(LUCK) };
}

export interface StoredFile {
  readonly bytes: Buffer;
  readonly hash: string;
}

/** Files and folders by path; a path of the root itself is not among them. */
export interface DiskState {
  readonly files: ReadonlyMap<string, StoredFile>;
  readonly folders: readonly string[];
}

const MOST_KEPT_BYTES = 32 * 1024;

export class CrashStates {
  readonly #recording: Recording;
  /** The operations of each node, with their place in the recording. */
  readonly #byNode = new Map<number, Numbered[]>();
  readonly #whole = new Map<string, StoredFile>();

  constructor(recording: Recording) {
    this.#recording = recording;
    for (const [number, operation] of recording.operations.entries()) {
      const node = operation.kind === 'name' || operation.kind === 'move' ? operation.folder : operation.node;
      const list = this.#byNode.get(node);
      if (list) list.push({ number, operation });
      else this.#byNode.set(node, [{ number, operation }]);
    }
  }

  /** The same for the same crash and random numbers. */
  make(crash: Crash, random: Random): DiskState {
    const files = new Map<string, StoredFile>();
    const folders: string[] = [];
    const walk = (folder: number, path: string): void => {
      for (const [name, node] of [...this.#names(folder, crash, random)].sort(([one], [other]) => (one < other ? -1 : 1))) {
        if (this.#recording.folders.has(node)) {
          folders.push(path + name);
          walk(node, `${path}${name}/`);
        } else files.set(path + name, this.#content(node, crash, random));
      }
    };
    walk(0, '');
    return { files, folders };
  }

  /** Done before the cut, in order; of these the first `durable` are on the disk for certain. */
  #done(node: number, cut: number): { readonly done: readonly Operation[]; readonly durable: number } {
    const before = (this.#byNode.get(node) ?? []).filter(({ number }) => number < cut);
    let covered = 0;
    for (const { operation } of before) if (operation.kind === 'sync') covered = Math.max(covered, operation.covers);
    const changes = before.filter(({ operation }) => operation.kind !== 'sync');
    const durable = changes.filter(({ number }) => number < covered).length;
    return { done: changes.map(({ operation }) => operation), durable };
  }

  #names(folder: number, { cut, names, luck }: Crash, random: Random): Map<string, number> {
    const { done, durable } = this.#done(folder, cut);
    const found = new Map<string, number>();
    const late = new Set<string>();
    for (const [index, operation] of done.entries()) {
      if (operation.kind !== 'name' && operation.kind !== 'move') continue;
      const touched = operation.kind === 'name' ? [operation.name] : [operation.from, operation.to];
      const kept = index < durable || names === 'none' || (names === 'some' && random.chance(luck));
      // What came later to the same name can only be there if this is.
      if (kept && !touched.some((name) => late.has(name))) rename(found, operation);
      else for (const name of touched) late.add(name);
    }
    return found;
  }

  #content(node: number, { cut, data, luck }: Crash, random: Random): StoredFile {
    const { done, durable } = this.#done(node, cut);
    if (data === 'all' || durable === done.length) return this.#prefix(node, done, durable);
    if (data === 'none') return this.#prefix(node, done, done.length);
    const content = new FileContent();
    for (const operation of done.slice(0, durable)) content.apply(operation);
    // The size is metadata: it may have grown ahead of the bytes.
    const grown = random.chance(0.3) ? sizeAfter(done) : 0;
    for (const operation of done.slice(durable)) {
      if (operation.kind === 'write') for (const piece of piecesOf(operation, data)) if (random.chance(luck)) content.apply(piece);
      if (operation.kind === 'resize' && random.chance(luck)) content.apply(operation);
    }
    content.growTo(grown);
    return stored(content.bytes());
  }

  #prefix(node: number, done: readonly Operation[], count: number): StoredFile {
    const key = `${node}/${count}`;
    const known = this.#whole.get(key);
    if (known) return known;
    const content = new FileContent();
    for (const operation of done.slice(0, count)) content.apply(operation);
    const file = stored(content.bytes());
    // Beginnings of a database log are many and large: they are made again.
    if (file.bytes.length <= MOST_KEPT_BYTES) this.#whole.set(key, file);
    return file;
  }
}

interface Numbered {
  readonly number: number;
  readonly operation: Operation;
}

function rename(names: Map<string, number>, operation: Naming | Move): void {
  if (operation.kind === 'move') {
    names.delete(operation.from);
    names.set(operation.to, operation.node);
  } else if (operation.node === null) names.delete(operation.name);
  else names.set(operation.name, operation.node);
}

/** Pieces end at multiples of their size in the file, as sectors and pages do. */
function* piecesOf(write: Write, loss: Loss): Generator<Write> {
  if (typeof loss !== 'number') {
    yield write;
    return;
  }
  const end = write.at + write.bytes.length;
  for (let at = write.at; at < end; ) {
    const next = Math.min(end, (Math.floor(at / loss) + 1) * loss);
    yield { ...write, at, bytes: write.bytes.subarray(at - write.at, next - write.at) };
    at = next;
  }
}

function sizeAfter(operations: readonly Operation[]): number {
  let size = 0;
  for (const operation of operations) {
    if (operation.kind === 'write') size = Math.max(size, operation.at + operation.bytes.length);
    if (operation.kind === 'resize') size = operation.size;
  }
  return size;
}

class FileContent {
  #bytes = Buffer.alloc(4096);
  #size = 0;

  apply(operation: Operation): void {
    if (operation.kind === 'write') this.#write(operation);
    else if (operation.kind === 'resize') this.#resize(operation);
  }

  growTo(size: number): void {
    if (size <= this.#size) return;
    if (size > this.#bytes.length) this.#bytes = Buffer.concat([this.#bytes], Math.max(size, 2 * this.#bytes.length));
    this.#size = size;
  }

  bytes(): Buffer {
    return this.#bytes.subarray(0, this.#size);
  }

  #write({ at, bytes }: Write): void {
    this.growTo(at + bytes.length);
    this.#bytes.set(bytes, at);
  }

  #resize({ size }: Resize): void {
    this.growTo(size);
    this.#bytes.fill(0, size, this.#size);
    this.#size = size;
  }
}

function stored(bytes: Buffer): StoredFile {
  return { bytes, hash: createHash('sha1').update(bytes).digest('hex') };
}
