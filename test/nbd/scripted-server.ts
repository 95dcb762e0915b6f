// A server that says exactly what a test wants it to say, also what no server may: for lies, and for endings in the middle of a word.

import { createServer, type Socket } from 'node:net';
import { ByteDialog } from '../../src/nbd/byte-dialog.ts';
import { type ExportInfo, encodeExportInfo, INFO } from '../../src/nbd/protocol/export-info.ts';
import { encodeGreeting } from '../../src/nbd/protocol/handshake.ts';
import { encodeMetaContext } from '../../src/nbd/protocol/meta-context.ts';
import { OPTION, OPTION_HEAD_LENGTH, parseOptionHead } from '../../src/nbd/protocol/option.ts';
import { encodeOptionReply, REPLY } from '../../src/nbd/protocol/option-reply.ts';
import { parseRequest, type Request } from '../../src/nbd/protocol/request.ts';
import { dataView } from '../../src/nbd/protocol/view.ts';

export type Style = 'simple' | 'structured' | 'extended';

export interface ScriptedExport {
  readonly style: Style;
  readonly size?: number;
  readonly flags?: number;
  /** The smallest block; not told where it is left out. */
  readonly minimum?: number;
  readonly contexts?: readonly { readonly id: number; readonly name: string }[];
}

/** One client of the scripted server. */
export class ScriptedPeer {
  readonly socket: Socket;
  readonly #dialog: ByteDialog;
  #extended = false;

  constructor(socket: Socket) {
    this.socket = socket;
    this.#dialog = new ByteDialog(socket);
  }

  send(...parts: Uint8Array[]): void {
    for (const part of parts) this.socket.write(part);
  }

  take(length: number): Promise<Buffer> {
    return this.#dialog.take(length);
  }

  /** Greets, and takes the flags of the client. */
  async greet(flags = 3): Promise<void> {
    this.send(encodeGreeting(flags));
    await this.take(4);
  }

  /** The next option, whatever it is. */
  async option(): Promise<{ readonly option: number; readonly data: Buffer }> {
    const { option, length } = parseOptionHead(await this.take(OPTION_HEAD_LENGTH));
    return { option, data: await this.take(length) };
  }

  /** Answers options truthfully until `stop` is asked; that one is left to the test. */
  async optionsUntil(stop: number, { style, contexts = [] }: ScriptedExport): Promise<void> {
    while (true) {
      const { option } = await this.option();
      if (option === stop) return;
      const enabled =
        (option === OPTION.EXTENDED_HEADERS && style === 'extended') || (option === OPTION.STRUCTURED_REPLY && style === 'structured');
      if (option === OPTION.SET_META_CONTEXT) {
        for (const context of contexts) this.send(encodeOptionReply(option, REPLY.META_CONTEXT, encodeMetaContext(context)));
        this.send(encodeOptionReply(option, REPLY.ACK));
      } else this.send(encodeOptionReply(option, enabled ? REPLY.ACK : REPLY.ERR_UNSUP));
    }
  }

  /** The whole negotiation, truthfully. */
  async enter(served: ScriptedExport): Promise<void> {
    await this.greet();
    await this.optionsUntil(OPTION.GO, served);
    const { size = 1 << 20, flags = 1, minimum } = served;
    const infos: ExportInfo[] = [{ info: INFO.EXPORT, size, flags }];
    if (minimum !== undefined) infos.push({ info: INFO.BLOCK_SIZE, blockSize: { minimum, preferred: 65_536, maximum: 1 << 25 } });
    for (const info of infos) this.send(encodeOptionReply(OPTION.GO, REPLY.INFO, encodeExportInfo(info)));
    this.send(encodeOptionReply(OPTION.GO, REPLY.ACK));
    this.#extended = served.style === 'extended';
  }

  async request(): Promise<Request> {
    return parseRequest(dataView(await this.take(this.#extended ? 32 : 28)), this.#extended);
  }

  /** Resolves when the client has closed its side. */
  closed(): Promise<void> {
    return new Promise((resolve) => {
      if (this.socket.destroyed || this.socket.readableEnded) resolve();
      this.socket.once('end', () => resolve());
      this.socket.once('close', () => resolve());
    });
  }
}

export interface ScriptedServer {
  readonly address: string;
  /** Resolves when every client so far has gone away. */
  allGone(): Promise<void>;
  close(): Promise<void>;
}

/** Each client gets the script; one that ends leaves the socket open, one that throws closes it. */
export async function openScriptedServer(
  path: string,
  script: (peer: ScriptedPeer, number: number) => Promise<void>,
  allowHalfOpen = false,
): Promise<ScriptedServer> {
  const sockets = new Set<Socket>();
  const gone: Promise<void>[] = [];
  const server = createServer({ allowHalfOpen }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    const peer = new ScriptedPeer(socket);
    gone.push(peer.closed());
    script(peer, sockets.size).catch(() => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen({ path }, resolve));
  return {
    address: `nbd+unix:///disk?socket=${path}`,
    allGone: async () => {
      await Promise.all(gone);
    },
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
