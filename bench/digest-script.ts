// The script that the product is compared with: reads the data of the given files once and digests every 64 KiB of it.
// One thread, plain synchronous reads, holes skipped, the same hash. `--holes`: skip holes of the source (raw disks).

import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { loadBlake3 } from '../src/plumbing/blake3.ts';
import { loadNative } from '../src/plumbing/native.ts';

const blake3 = await loadBlake3();
const native = loadNative();
const buffer = Buffer.alloc(1 << 20);
let bytes = 0;

function digest(fd: number, start: number, end: number): void {
  for (let at = start; at < end; ) {
    const count = readSync(fd, buffer, 0, Math.min(buffer.length, end - at), at);
    if (count === 0) throw new Error('short read');
    for (let offset = 0; offset < count; offset += 65_536) blake3.hash(buffer.subarray(offset, Math.min(count, offset + 65_536)));
    bytes += count;
    at += count;
  }
}

for (const path of process.argv.slice(2)) {
  const fd = openSync(path, 'r');
  const { size } = fstatSync(fd);
  for (let at = 0; at < size; ) {
    const start = native ? native.lseek(fd, at, 3) : at;
    if (start < 0) break;
    const end = native ? native.lseek(fd, start, 4) : size;
    digest(fd, start, end);
    at = end;
  }
  closeSync(fd);
}
console.log(`${bytes} bytes`);
