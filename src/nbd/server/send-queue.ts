// What goes out to one client, in order, message by message. Who waits for a message to be gone cannot run ahead of the client.
// A client that takes nothing for too long is cut off, or its replies would fill memory for ever.

import type { Duplex } from 'node:stream';
import { connectionClosed } from '../byte-dialog.ts';
import { Watchdog } from '../watchdog.ts';

export class SendQueue {
  readonly #socket: Duplex;
  readonly #watchdog: Watchdog;
  #pending = 0;
  /** A message that is sent in parts keeps the others back until it is whole. */
  #turn: Promise<void> = Promise.resolve();
  #taken = false;

  constructor(socket: Duplex, slowLimit: number) {
    this.#socket = socket;
    this.#watchdog = new Watchdog(slowLimit, () => socket.destroy(new Error(`the client took no message for ${slowLimit} ms`)));
    socket.on('close', () => this.#watchdog.stop());
  }

  /** One whole message. Resolves when the system has it: its buffer may be used again. */
  async send(message: Uint8Array): Promise<void> {
    while (this.#taken) await this.#turn;
    await this.#write(message);
  }

  /** One message in parts; whatever happens in `parts`, no other message gets between them. */
  async sendParts(parts: (write: (part: Uint8Array) => Promise<void>) => Promise<void>): Promise<void> {
    while (this.#taken) await this.#turn;
    this.#taken = true;
    const sending = parts((part) => this.#write(part));
    this.#turn = sending.then(
      () => this.#free(),
      () => this.#free(),
    );
    await sending;
  }

  #free(): void {
    this.#taken = false;
  }

  #write(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#pending++;
      this.#watchdog.touch();
      this.#socket.write(bytes, (error) => {
        this.#pending--;
        if (this.#pending === 0 || error) this.#watchdog.stop();
        else this.#watchdog.touch();
        if (error) reject(connectionClosed(error));
        else resolve();
      });
    });
  }
}
