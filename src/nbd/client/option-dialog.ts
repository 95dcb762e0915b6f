// One option after another: asks, and collects what the server answers, within limits that hold for every server.
// It must not interpret the answers; it makes sure that they are answers to what was asked.

import type { Duplex } from 'node:stream';
import { ByteDialog } from '../byte-dialog.ts';
import { protocolBreach } from '../protocol/breach.ts';
import { encodeOption, optionName } from '../protocol/option.ts';
import { isErrorReply, OPTION_REPLY_HEAD_LENGTH, parseOptionReplyHead, REPLY, replyName } from '../protocol/option-reply.ts';

/** Replies to one option, all together: a list of some 100 000 exports with short names. */
const MOST_ANSWER_BYTES = 4 * 1024 ** 2;

export interface OptionAnswer {
  /** REP_ACK or an error. */
  readonly kind: number;
  /** Data of each reply in front of the last. Of no worth where the last is an error. */
  readonly data: readonly Buffer[];
}

export class OptionDialog {
  readonly #bytes: ByteDialog;

  constructor(socket: Duplex) {
    this.#bytes = new ByteDialog(socket);
  }

  take(length: number): Promise<Buffer> {
    return this.#bytes.take(length);
  }

  send(bytes: Uint8Array): void {
    this.#bytes.send(bytes);
  }

  leave(): Buffer {
    return this.#bytes.leave();
  }

  /** `kind`: of the replies that may come in front of the last one; none without it. */
  async ask(option: number, data?: Uint8Array, kind?: number): Promise<OptionAnswer> {
    this.send(encodeOption(option, data));
    const found: Buffer[] = [];
    for (let total = 0; total <= MOST_ANSWER_BYTES; ) {
      const head = parseOptionReplyHead(await this.take(OPTION_REPLY_HEAD_LENGTH));
      if (head.option !== option) throw protocolBreach(`it answers ${optionName(head.option)}, asked was ${optionName(option)}`);
      const bytes = await this.take(head.length);
      if (isErrorReply(head.kind)) return { kind: head.kind, data: found };
      if (head.kind === REPLY.ACK) {
        if (head.length > 0) throw protocolBreach(`an ACK with ${head.length} bytes`, { length: head.length });
        return { kind: head.kind, data: found };
      }
      if (head.kind !== kind) throw protocolBreach(`${replyName(head.kind)} in answer to ${optionName(option)}`);
      found.push(bytes);
      total += OPTION_REPLY_HEAD_LENGTH + head.length;
    }
    throw protocolBreach(`the answer to ${optionName(option)} does not end`, { most_bytes: MOST_ANSWER_BYTES });
  }
}
