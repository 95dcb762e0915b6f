// A client that says exactly what a test wants it to say, also what no client may.

import { connect, type Socket } from 'node:net';
import { ByteDialog } from '../../src/nbd/byte-dialog.ts';
import { encodeInfoRequest } from '../../src/nbd/protocol/export-info.ts';
import { encodeContextQuery } from '../../src/nbd/protocol/meta-context.ts';
import { encodeOption, OPTION } from '../../src/nbd/protocol/option.ts';
import { OPTION_REPLY_HEAD_LENGTH, parseOptionReplyHead, REPLY } from '../../src/nbd/protocol/option-reply.ts';
import {
  CHUNK_MAGIC,
  EXTENDED_CHUNK_MAGIC,
  parseChunk,
  parseExtendedChunk,
  parseSimpleReply,
  SIMPLE_REPLY_MAGIC,
} from '../../src/nbd/protocol/reply.ts';
import { encodeRequest, type Request } from '../../src/nbd/protocol/request.ts';
import { dataView } from '../../src/nbd/protocol/view.ts';
import type { ListenAddress } from '../../src/nbd/server/listen-address.ts';
import type { Style } from './scripted-server.ts';

/** One message of the server in transmission. */
export interface Message {
  readonly form: 'simple' | 'chunk' | 'extended';
  readonly cookie: bigint;
  readonly error: number;
  readonly type: number;
  readonly done: boolean;
  readonly payload: Buffer;
}

export class RawClient {
  readonly socket: Socket;
  readonly #dialog: ByteDialog;

  private constructor(socket: Socket) {
    this.socket = socket;
    this.#dialog = new ByteDialog(socket);
  }

  /** `allowHalfOpen`: its side stays open when the server has ended. */
  static async open(address: ListenAddress, allowHalfOpen = false): Promise<RawClient> {
    const place = address.kind === 'unix' ? { path: address.path } : { host: address.host, port: address.port };
    const socket = connect({ ...place, allowHalfOpen });
    const client = new RawClient(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    return client;
  }

  send(...parts: Uint8Array[]): void {
    for (const part of parts) this.socket.write(part);
  }

  take(length: number): Promise<Buffer> {
    return this.#dialog.take(length);
  }

  async greet(flags = 3): Promise<void> {
    await this.take(18);
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(flags);
    this.send(bytes);
  }

  /** The kind of the last reply to an option, and how many came in front of it. */
  async ask(option: number, data?: Uint8Array): Promise<{ readonly kind: number; readonly data: readonly Buffer[] }> {
    this.send(encodeOption(option, data));
    const found: Buffer[] = [];
    while (true) {
      const head = parseOptionReplyHead(await this.take(OPTION_REPLY_HEAD_LENGTH));
      if (head.option !== option) throw new Error(`option ${head.option} was answered, not ${option}`);
      const bytes = await this.take(head.length);
      if (head.kind === REPLY.ACK || head.kind >= 0x8000_0000) return { kind: head.kind, data: found };
      found.push(bytes);
    }
  }

  /** The whole negotiation. */
  async enter(style: Style, contexts: readonly string[] = [], name = 'disk'): Promise<void> {
    await this.greet();
    if (style === 'structured') await this.ask(OPTION.STRUCTURED_REPLY);
    if (style === 'extended') await this.ask(OPTION.EXTENDED_HEADERS);
    if (contexts.length > 0) await this.ask(OPTION.SET_META_CONTEXT, encodeContextQuery({ exportName: name, queries: contexts }));
    const { kind } = await this.ask(OPTION.GO, encodeInfoRequest({ name, wanted: [] }));
    if (kind !== REPLY.ACK) throw new Error(`GO was answered with ${kind}`);
  }

  request(request: Partial<Request>, extended = false, payload: Uint8Array = Buffer.alloc(0)): void {
    this.send(encodeRequest({ flags: 0, command: 0, cookie: 1n, offset: 0, length: 0, ...request }, extended), payload);
  }

  /** The next message; `length`: data that follow a simple reply without an error. */
  async message(length = 0): Promise<Message> {
    const first = await this.take(16);
    const magic = first.readUInt32BE(0);
    if (magic === SIMPLE_REPLY_MAGIC) {
      const { error, cookie } = parseSimpleReply(dataView(first));
      return { form: 'simple', cookie, error, type: -1, done: true, payload: error === 0 ? await this.take(length) : Buffer.alloc(0) };
    }
    if (magic !== CHUNK_MAGIC && magic !== EXTENDED_CHUNK_MAGIC) throw new Error(`a reply begins with ${magic.toString(16)}`);
    const extended = magic === EXTENDED_CHUNK_MAGIC;
    const head = Buffer.concat([first, await this.take(extended ? 16 : 4)]);
    const chunk = extended ? parseExtendedChunk(dataView(head)) : parseChunk(dataView(head));
    const payload = await this.take(chunk.length);
    const error = chunk.type >= 0x8000 ? payload.readUInt32BE(0) : 0;
    return { form: extended ? 'extended' : 'chunk', cookie: chunk.cookie, error, type: chunk.type, done: (chunk.flags & 1) !== 0, payload };
  }

  /** All messages of one reply. */
  async reply(length = 0): Promise<Message[]> {
    const messages: Message[] = [];
    do messages.push(await this.message(length));
    while (!messages.at(-1)?.done);
    return messages;
  }

  /** Resolves when the server has ended the connection. */
  async closed(): Promise<void> {
    // What it still has to say is of no interest, but stands in front of its end.
    this.socket.removeAllListeners('data').on('data', () => undefined);
    this.socket.resume();
    if (this.socket.readableEnded || this.socket.destroyed) return;
    await new Promise<void>((resolve) => {
      this.socket.once('end', () => resolve());
      this.socket.once('close', () => resolve());
    });
  }

  /** Resolves when the server does not even listen any more. */
  async deaf(): Promise<void> {
    let gone = false;
    this.socket.on('error', () => {
      gone = true;
    });
    while (!gone) {
      this.send(Buffer.alloc(1));
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  close(): void {
    this.socket.destroy();
  }
}
