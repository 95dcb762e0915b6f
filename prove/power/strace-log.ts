// Reads the log of `strace -f -y -xx`: every call that changed something below one folder, as operations.
// What it does not understand it refuses: a call left out would make a proof of nothing.

import { dirname } from 'node:path';
import type { Operation, Recording } from './operation.ts';

/** All calls that change files or make changes durable; the rest of the program is not stopped. */
export const TRACED_CALLS =
  'open,openat,creat,write,writev,pwrite64,pwritev,pwritev2,ftruncate,truncate,fallocate,copy_file_range,sendfile,fsync,fdatasync,' +
  'sync_file_range,sync,syncfs,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir';

export const STRACE_OPTIONS = ['-f', '-y', '-xx', '-s', '16777216', '--seccomp-bpf', '-e', `trace=${TRACED_CALLS}`];

interface Call {
  readonly name: string;
  /** Paths of descriptors in it are hexadecimal too, so commas and brackets are strace's own. */
  readonly args: string;
  readonly answer: string;
  /** Operations that were complete when the call began. */
  readonly began: number;
}

interface Begun {
  readonly text: string;
  readonly began: number;
}

/** Names and nodes as the program saw them, over several runs one behind the other. */
export class StraceReader {
  readonly recording: Recording = { operations: [], folders: new Set([0]) };
  readonly #root: string;
  readonly #nodes = new Map<string, number>([['', 0]]);
  readonly #sizes = new Map<number, number>();
  readonly #ignored: (path: string) => boolean;
  #next = 1;

  /** `ignored`: files, by path below `root`, that mean nothing after a restart. */
  constructor(root: string, ignored: (path: string) => boolean) {
    this.#root = `${root}/`;
    this.#ignored = ignored;
  }

  /** The log of one run, whole. */
  read(log: string): void {
    const begun = new Map<string, Begun>();
    for (const line of log.split('\n')) {
      const call = this.#callOf(line, begun);
      if (call && !call.answer.startsWith('-1 ')) this.#apply(call);
    }
    if (begun.size > 0)
      throw new Error(`calls that never returned: ${[...begun.values()].map(({ text }) => text.slice(0, 80)).join('; ')}`);
  }

  /** A line is a whole call, or its beginning, or its end: threads interrupt each other. */
  #callOf(line: string, begun: Map<string, Begun>): Call | undefined {
    const match = /^(\d+) +(.*)$/s.exec(line);
    const [, thread = '', text = ''] = match ?? [];
    if (!match || text.startsWith('---') || text.startsWith('+++')) return undefined;
    const { length: now } = this.recording.operations;
    const cut = / *<unfinished \.\.\.>$/.exec(text);
    if (cut) {
      begun.set(thread, { text: text.slice(0, cut.index), began: now });
      return undefined;
    }
    const resumed = /^<\.\.\. \w+ resumed>/.exec(text);
    const first = resumed ? begun.get(thread) : undefined;
    if (resumed) begun.delete(thread);
    const whole = resumed ? (first?.text ?? '') + text.slice(resumed[0].length) : text;
    const parts = /^(\w+)\((.*)\) += (.*)$/s.exec(whole);
    if (!parts) throw new Error(`not understood: ${whole.slice(0, 200)}`);
    return { name: parts[1] ?? '', args: parts[2] ?? '', answer: parts[3] ?? '', began: first?.began ?? now };
  }

  #apply({ name, args, answer, began }: Call): void {
    const paths = [...args.matchAll(/(?:^|, )"((?:\\x[0-9a-f]{2})*)"/g)].map(([, hex]) => this.#below(unhex(hex ?? '').toString()));
    const opened = /^\d+<((?:\\x[0-9a-f]{2})*)>/.exec(args)?.[1];
    const descriptor = opened === undefined ? undefined : this.#below(unhex(opened).toString());
    const concerned = name === 'open' || name === 'openat' ? paths.slice(0, 1) : [...paths, descriptor];
    const ours = concerned.filter((path) => path !== undefined && !this.#ignored(path));
    if (name === 'sync' || name === 'syncfs') throw new Error(`${name}: not known what it covers`);
    if (ours.length === 0) return;
    const [path = '', to = ''] = ours;
    if (name === 'open' || name === 'openat') this.#open(path, args);
    else if (name === 'pwrite64' || name === 'pwritev') this.#write(path, args, Number(answer));
    else if (name === 'ftruncate') this.#resize(this.#nodeAt(path), Number(/(\d+)$/.exec(args)?.[1]));
    else if (name === 'fsync' || name === 'fdatasync') this.#add({ kind: 'sync', node: this.#nodeAt(path), covers: began });
    else if (name === 'mkdir') this.#make(path, true);
    else if (name === 'link') this.#name(to, this.#nodeAt(path));
    else if (name === 'unlink' || name === 'rmdir') this.#name(path, null);
    else if (name === 'rename') this.#move(path, to);
    else throw new Error(`${name} below the recorded folder is not understood: ${ours.join(', ')}`);
  }

  /** The path below the root, or undefined for what lies elsewhere. */
  #below(path: string): string | undefined {
    if (`${path}/` === this.#root) return '';
    return path.startsWith(this.#root) ? path.slice(this.#root.length).replace(/\/$/, '') : undefined;
  }

  #add(operation: Operation): void {
    this.recording.operations.push(operation);
  }

  #nodeAt(path: string): number {
    const node = this.#nodes.get(path);
    if (node === undefined) throw new Error(`${path} was never made`);
    return node;
  }

  #open(path: string, args: string): void {
    if (!this.#nodes.has(path)) {
      if (args.includes('O_CREAT')) this.#make(path, false);
    } else if (args.includes('O_TRUNC')) this.#resize(this.#nodeAt(path), 0);
  }

  #make(path: string, folder: boolean): void {
    const node = this.#next++;
    if (folder) this.recording.folders.add(node);
    this.#name(path, node);
  }

  #name(path: string, node: number | null): void {
    this.#add({ kind: 'name', folder: this.#folderOf(path), name: nameOf(path), node });
    if (node === null) this.#nodes.delete(path);
    else this.#nodes.set(path, node);
  }

  #move(from: string, to: string): void {
    if (dirname(from) !== dirname(to)) throw new Error(`a rename between folders is not understood: ${from} to ${to}`);
    const node = this.#nodeAt(from);
    this.#add({ kind: 'move', folder: this.#folderOf(from), from: nameOf(from), to: nameOf(to), node });
    this.#nodes.delete(from);
    this.#nodes.set(to, node);
  }

  #folderOf(path: string): number {
    const above = dirname(path);
    return this.#nodeAt(above === '.' ? '' : above);
  }

  #write(path: string, args: string, written: number): void {
    const data = [...args.matchAll(/"((?:\\x[0-9a-f]{2})*)"/g)].map(([, hex]) => unhex(hex ?? ''));
    const bytes = Buffer.concat(data);
    const at = Number(/, (\d+)$/.exec(args)?.[1]);
    // A short write is what it is; a log that was cut is none.
    if (bytes.length < written || !Number.isSafeInteger(at)) throw new Error(`a write to ${path} was not recorded whole`);
    const node = this.#nodeAt(path);
    this.#add({ kind: 'write', node, at, bytes: bytes.subarray(0, written) });
    this.#sizes.set(node, Math.max(this.#sizes.get(node) ?? 0, at + written));
  }

  #resize(node: number, size: number): void {
    if (!Number.isSafeInteger(size)) throw new Error('a size was not understood');
    if (this.#sizes.get(node) === size) return;
    this.#sizes.set(node, size);
    this.#add({ kind: 'resize', node, size });
  }
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

function unhex(escaped: string): Buffer {
  return Buffer.from(escaped.replaceAll('\\x', ''), 'hex');
}
