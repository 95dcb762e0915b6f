// Synchronous reads and writes that are never short. For worker threads; the main thread stays asynchronous.

import { readSync, writevSync } from 'node:fs';

export class EndOfSource extends Error {
  override readonly name = 'EndOfSource';
}

export function readFully(fd: number, buffer: Uint8Array, offset: number): void {
  for (let done = 0; done < buffer.length; ) {
    const count = readSync(fd, buffer, done, buffer.length - done, offset + done);
    if (count === 0) throw new EndOfSource(`the source ends at byte ${offset + done}`);
    done += count;
  }
}

// Linux takes at most IOV_MAX (1024) buffers in one call.
const MOST_BUFFERS = 1024;

export function writeFully(fd: number, buffers: readonly Uint8Array[], offset: number): void {
  let rest = buffers.filter((buffer) => buffer.length > 0);
  let at = offset;
  while (rest.length > 0) {
    let count = writevSync(fd, rest.slice(0, MOST_BUFFERS), at);
    at += count;
    let index = 0;
    for (let first = rest[index]; first !== undefined && count >= first.length; first = rest[index]) {
      count -= first.length;
      index++;
    }
    rest = rest.slice(index);
    const partial = rest[0];
    if (count > 0 && partial !== undefined) rest[0] = partial.subarray(count);
  }
}
