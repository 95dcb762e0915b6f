// What goes over the socket between a repository's process and this one: a line of JSON and bytes behind it, each with its length.
//
//   4 bytes  number of the question, big endian
//   4 bytes  length of the JSON text
//   4 bytes  length of the bytes
//   JSON text, bytes

/** A socket, as far as frames need one. */
export interface FrameTarget {
  cork(): void;
  uncork(): void;
  write(bytes: Uint8Array): unknown;
}

const HEADER = 12;
const TEXT_LENGTH = 4;
const BODY_LENGTH = 8;

/** The buffers must not change before the other end has answered. */
export function sendFrame(socket: FrameTarget, id: number, message: unknown, body: readonly Uint8Array[] = []): void {
  const text = Buffer.from(JSON.stringify(message));
  const front = Buffer.allocUnsafe(HEADER + text.length);
  const bodyLength = body.reduce((sum, part) => sum + part.byteLength, 0);
  front.writeUInt32BE(id, 0);
  front.writeUInt32BE(text.length, TEXT_LENGTH);
  front.writeUInt32BE(bodyLength, BODY_LENGTH);
  text.copy(front, HEADER);
  // One call to the kernel for all of it.
  socket.cork();
  socket.write(front);
  for (const part of body) if (part.byteLength > 0) socket.write(part);
  socket.uncork();
}

export interface FrameHandlers {
  /** Where the bytes of a message belong; memory of its own where nobody has a place. */
  place(id: number, length: number): Uint8Array;
  take(id: number, text: string, body: Uint8Array): void;
}

/** Puts frames together from pieces as they arrive. */
export class FrameReader {
  readonly #handlers: FrameHandlers;
  readonly #header = Buffer.alloc(HEADER);
  #text = Buffer.alloc(0);
  #body: Uint8Array = this.#text;
  #state: 'header' | 'text' | 'body' = 'header';
  #filled = 0;

  constructor(handlers: FrameHandlers) {
    this.#handlers = handlers;
  }

  feed(chunk: Buffer): void {
    for (let at = 0; at < chunk.length || this.#isFull(); ) {
      const target = this.#target();
      const count = Math.min(target.byteLength - this.#filled, chunk.length - at);
      target.set(chunk.subarray(at, at + count), this.#filled);
      at += count;
      this.#filled += count;
      if (this.#isFull()) this.#advance();
    }
  }

  #target(): Uint8Array {
    if (this.#state === 'header') return this.#header;
    return this.#state === 'text' ? this.#text : this.#body;
  }

  #isFull(): boolean {
    return this.#filled === this.#target().byteLength;
  }

  #advance(): void {
    this.#filled = 0;
    if (this.#state === 'header') {
      this.#text = Buffer.allocUnsafe(this.#header.readUInt32BE(TEXT_LENGTH));
      this.#state = 'text';
    } else if (this.#state === 'text') {
      this.#body = this.#handlers.place(this.#header.readUInt32BE(0), this.#header.readUInt32BE(BODY_LENGTH));
      this.#state = 'body';
    } else {
      this.#state = 'header';
      this.#handlers.take(this.#header.readUInt32BE(0), this.#text.toString(), this.#body);
    }
  }
}
