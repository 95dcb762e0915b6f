// Keeps BYTES of free memory steady while something is measured: `node bench/steady-memory.ts BYTES`, until it is killed.
//
// The host of a virtual machine takes free memory back after seconds, in pieces of 2 MiB, and whoever needs it next waits for it: the same copy
// then takes one second or nine. Here memory is taken, and all of it given back but one page in every 2 MiB: what is free is in smaller
// pieces, stays with the machine, and is used first.

import { loadNative } from '../src/plumbing/native.ts';

const PAGE = 4096;
const PIECE = 2 << 20;
const PROT_READ_WRITE = 3;
const MAP_PRIVATE_ANONYMOUS = 0x22;
const MADV_DONTNEED = 4;
const MADV_NOHUGEPAGE = 15;

const bytes = Math.ceil(Number(process.argv[2]) / PIECE) * PIECE;
const native = loadNative();
const mmap = native?.symbol('int64 mmap(int64, size_t, int, int, int, int64)');
const madvise = native?.symbol('int madvise(int64, size_t, int)');
const memset = native?.symbol('int64 memset(int64, int, size_t)');
if (!mmap || !madvise || !memset) throw new Error('memory cannot be taken on this platform');

const start = Number(mmap(0, bytes, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0));
if (start < 0) throw new Error(`there are no ${bytes} bytes of memory`);
madvise(start, bytes, MADV_NOHUGEPAGE);
memset(start, 1, bytes);
for (let at = 0; at < bytes; at += PIECE) madvise(start + at + PAGE, PIECE - PAGE, MADV_DONTNEED);
console.log('ready');
setInterval(() => undefined, 1 << 30);
