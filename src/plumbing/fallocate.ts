// Room inside of a file: taken before it is written, and given back where nothing needs it any more. Through fallocate(2), which Node does not offer.

import { type ForeignFunction, loadNative } from './native.ts';

// linux/falloc.h
const FALLOC_FL_KEEP_SIZE = 0x01;
const FALLOC_FL_PUNCH_HOLE = 0x02;

const EINTR = 4;
const ENOSPC = 28;
const EDQUOT = 122;

/** `unknown`: this system or file system cannot do it, or failed in another way; whoever asked goes on without. */
export type FallocateAnswer = 'done' | 'no room' | 'unknown';

/** Room for the first `length` bytes, which nobody else can take any more. */
export function reserveRoom(fd: number, length: number): FallocateAnswer {
  return length === 0 ? 'done' : fallocate(fd, 0, 0, length);
}

/** The range reads as zeros from now on and takes no room; what is not `done` has changed nothing. The system is asked at once, and nothing else runs meanwhile. */
export function punchHole(fd: number, offset: number, length: number): FallocateAnswer {
  return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
}

let loaded: ForeignFunction | undefined | null = null;

function fallocate(fd: number, mode: number, offset: number, length: number): FallocateAnswer {
  const native = loadNative();
  if (loaded === null) loaded = native?.symbol('int fallocate(int, int, int64, int64)');
  if (!native || !loaded) return 'unknown';
  for (;;) {
    if (loaded(fd, mode, offset, length) === 0) return 'done';
    const errno = native.errno();
    if (errno === EINTR) continue;
    return errno === ENOSPC || errno === EDQUOT ? 'no room' : 'unknown';
  }
}
