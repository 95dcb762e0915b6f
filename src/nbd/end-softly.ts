// The end of a connection from our side: all that was sent still goes out, and the other side has a moment to close its own.

import type { Duplex } from 'node:stream';

const CLOSE_MS = 1000;

/** What still comes in is of no interest. */
export function endSoftly(socket: Duplex): void {
  socket.end();
  socket.resume();
  setTimeout(() => socket.destroy(), CLOSE_MS).unref();
}
