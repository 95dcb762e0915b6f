// A socket that the system reads from straight into the memory where the bytes are wanted. An ordinary one makes a new buffer for every piece, and
// throwing those away costs more time than anything else a client of NBD does.
// Not below TLS: what comes in there are records, not bytes that anybody wants.

import { Socket, type SocketConstructorOpts } from 'node:net';

export interface Receiver {
  /** Where the next bytes go; never empty. */
  room(): Uint8Array;
  /** So many bytes are at the beginning of what `room` gave. */
  took(count: number, room: Uint8Array): void;
}

/** Paused until whoever receives asks for something; its bytes go there, and not to listeners of 'data'. */
export class DirectSocket extends Socket {
  receiver: Receiver | undefined;

  constructor(options: SocketConstructorOpts = {}) {
    const nowhere = Buffer.allocUnsafeSlow(NOWHERE_BYTES);
    super({
      ...options,
      onread: {
        buffer: () => this.receiver?.room() ?? nowhere,
        // Bytes that nobody receives are dropped, as those of any stream that flows.
        callback: (count, room) => {
          this.receiver?.took(count, room);
          return !this.isPaused();
        },
      },
    });
    this.pause();
  }
}

const NOWHERE_BYTES = 4096;
