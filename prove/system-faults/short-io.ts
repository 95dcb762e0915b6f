// Loaded into the attacked program before it begins (NODE_OPTIONS=--import): every read and write of Node's own does only a part of what
// was asked for, as the kernel may. It does do that part: nothing is made up. It must not touch what SQLite does.

import fs from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';

/** `half`, or at most that many bytes. */
const SHORT = process.env.CHAINKEEP_PROVE_SHORT ?? 'half';

function shorter(length: number): number {
  const limit = SHORT === 'half' ? Math.ceil(length / 2) : Number(SHORT);
  return Math.min(length, Math.max(1, limit));
}

/** The buffers up to the shorter length. */
function cut(buffers: readonly NodeJS.ArrayBufferView[]): NodeJS.ArrayBufferView[] {
  let rest = shorter(buffers.reduce((sum, { byteLength }) => sum + byteLength, 0));
  const kept: NodeJS.ArrayBufferView[] = [];
  for (const buffer of buffers) {
    if (rest === 0) break;
    const length = Math.min(rest, buffer.byteLength);
    kept.push(new Uint8Array(buffer.buffer, buffer.byteOffset, length));
    rest -= length;
  }
  return kept;
}

const { readSync, writevSync, read } = fs;

fs.readSync = ((fd: number, buffer: NodeJS.ArrayBufferView, offset: number, length: number, position: number) =>
  readSync(fd, buffer, offset, shorter(length), position)) as typeof fs.readSync;

fs.writevSync = (fd, buffers, position) => writevSync(fd, cut(buffers), position);

fs.read = ((...args: readonly unknown[]) => {
  const [fd, buffer, offset, length, position, done] = args;
  if (typeof length !== 'number') return Reflect.apply(read, fs, args);
  return Reflect.apply(read, fs, [fd, buffer, offset, shorter(length), position, done]);
}) as typeof fs.read;

const handle = await open(import.meta.filename);
const methods: FileHandle = Object.getPrototypeOf(handle);
await handle.close();
const { read: readHandle, write: writeHandle, writev: writevHandle } = methods;

methods.read = function (this: FileHandle, ...args: readonly unknown[]) {
  const [buffer, offset, length, position] = args;
  return Reflect.apply(readHandle, this, typeof length === 'number' ? [buffer, offset, shorter(length), position] : args);
} as FileHandle['read'];

methods.write = function (this: FileHandle, ...args: readonly unknown[]) {
  const [buffer, offset, length, position] = args;
  return Reflect.apply(writeHandle, this, typeof length === 'number' ? [buffer, offset, shorter(length), position] : args);
} as FileHandle['write'];

methods.writev = function (this: FileHandle, buffers, position) {
  return Reflect.apply(writevHandle, this, [cut(buffers), position]);
} as FileHandle['writev'];

syncBuiltinESMExports();
