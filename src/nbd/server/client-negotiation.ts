// The negotiation with one client: answers its options until it has chosen an export.
// Nothing of an export is said before TLS where TLS is set up, and nothing that was agreed on before TLS counts afterwards.

import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { ByteDialog } from '../byte-dialog.ts';
import { endSoftly } from '../end-softly.ts';
import { protocolBreach } from '../protocol/breach.ts';
import { type ExportInfo, encodeExportInfo, INFO, parseInfoRequest } from '../protocol/export-info.ts';
import { CLIENT_FLAGS_LENGTH, encodeExportAnswer, encodeGreeting, HANDSHAKE_FLAG, parseClientFlags } from '../protocol/handshake.ts';
import { encodeMetaContext, parseContextQuery } from '../protocol/meta-context.ts';
import { OPTION, OPTION_HEAD_LENGTH, parseOptionHead } from '../protocol/option.ts';
import { encodeListedExport, encodeOptionReply, REPLY } from '../protocol/option-reply.ts';
import { parseText } from '../protocol/text.ts';
import { type ChosenContext, listContexts, selectContexts } from './export-contexts.ts';
import { transmissionFlags } from './judge-request.ts';
import { blockSizeOf, type NbdExport } from './nbd-export.ts';
import { acceptTls, type ServerTls } from './server-tls.ts';

export interface NegotiationPolicy {
  find(name: string): NbdExport | undefined;
  /** Undefined where clients may not know which exports there are. */
  list(): readonly NbdExport[] | undefined;
  /** Where it is set, nobody gets an export without. */
  readonly tls?: ServerTls;
  readonly stopping: () => boolean;
}

/** What both sides have agreed on. */
export interface Agreement {
  readonly socket: Duplex;
  readonly served: NbdExport;
  readonly headers: 'simple' | 'structured' | 'extended';
  readonly contexts: readonly ChosenContext[];
}

/** A client that asks for ever is no client. */
const MOST_OPTIONS = 1024;

export class ClientNegotiation {
  readonly #raw: Socket;
  readonly #policy: NegotiationPolicy;
  #socket: Duplex;
  #dialog: ByteDialog;
  #secure = false;
  #fixed = true;
  #zeros = true;
  #headers: Agreement['headers'] = 'simple';
  /** Of the last SET_META_CONTEXT: they count only for the export they were asked for, not for one that has its name by now. */
  #chosen: { readonly served: NbdExport; readonly contexts: readonly ChosenContext[] } | undefined;

  constructor(socket: Socket, policy: NegotiationPolicy) {
    this.#raw = socket;
    this.#socket = socket;
    this.#policy = policy;
    this.#dialog = new ByteDialog(socket);
  }

  /** Undefined when the client has left politely. Rejects when it broke the protocol or is gone; the caller closes the socket. */
  async run(): Promise<Agreement | undefined> {
    this.#dialog.send(encodeGreeting(HANDSHAKE_FLAG.FIXED_NEWSTYLE | HANDSHAKE_FLAG.NO_ZEROES));
    const flags = parseClientFlags(await this.#dialog.take(CLIENT_FLAGS_LENGTH));
    this.#fixed = (flags & HANDSHAKE_FLAG.FIXED_NEWSTYLE) !== 0;
    this.#zeros = (flags & HANDSHAKE_FLAG.NO_ZEROES) === 0;
    for (let count = 0; count < MOST_OPTIONS; count++) {
      await this.#dialog.drained();
      const { option, length } = parseOptionHead(await this.#dialog.take(OPTION_HEAD_LENGTH));
      const data = await this.#dialog.take(length);
      if (option === OPTION.ABORT) {
        this.#reply(option, REPLY.ACK);
        endSoftly(this.#socket);
        return undefined;
      }
      const agreement = await this.#answer(option, data);
      if (agreement) return agreement;
    }
    throw protocolBreach(`more than ${MOST_OPTIONS} options`);
  }

  async #answer(option: number, data: Buffer): Promise<Agreement | undefined> {
    if (option === OPTION.EXPORT_NAME) return this.#exportName(data);
    // A client of the plain newstyle understands no replies to options.
    if (!this.#fixed) throw protocolBreach('an option besides EXPORT_NAME without the fixed newstyle');
    if (this.#policy.stopping()) this.#reply(option, REPLY.ERR_SHUTDOWN);
    else if (option === OPTION.STARTTLS) await this.#startTls(data);
    else if (this.#policy.tls && !this.#secure) this.#reply(option, REPLY.ERR_TLS_REQD);
    else return this.#answerSecurely(option, data);
    return undefined;
  }

  #answerSecurely(option: number, data: Buffer): Agreement | undefined {
    switch (option) {
      case OPTION.LIST:
        this.#reply(option, this.#list(data));
        return undefined;
      case OPTION.INFO:
      case OPTION.GO:
        return this.#choose(option, data);
      case OPTION.STRUCTURED_REPLY:
        this.#reply(option, this.#useHeaders(data, 'structured'));
        return undefined;
      case OPTION.EXTENDED_HEADERS:
        this.#reply(option, this.#useHeaders(data, 'extended'));
        return undefined;
      case OPTION.LIST_META_CONTEXT:
      case OPTION.SET_META_CONTEXT:
        this.#reply(option, this.#contexts(option, data));
        return undefined;
      default:
        this.#reply(option, REPLY.ERR_UNSUP);
        return undefined;
    }
  }

  /** It cannot be refused but by closing the connection. */
  #exportName(data: Buffer): Agreement {
    const name = parseText(data);
    const served = name === undefined ? undefined : this.#policy.find(name);
    if (this.#policy.tls && !this.#secure) throw protocolBreach('an export was asked for without TLS');
    if (!served || this.#headers === 'extended' || this.#policy.stopping())
      throw protocolBreach('an export that is not to be had in this way');
    const agreement = this.#agree(served);
    this.#dialogEnd(encodeExportAnswer({ size: served.disk.size, flags: transmissionFlags(served, this.#headers) }, this.#zeros));
    return agreement;
  }

  async #startTls(data: Buffer): Promise<void> {
    const { tls } = this.#policy;
    const refusal = data.length > 0 || this.#secure ? REPLY.ERR_INVALID : REPLY.ERR_POLICY;
    if (!tls || refusal === REPLY.ERR_INVALID) {
      this.#reply(OPTION.STARTTLS, refusal);
      return;
    }
    // What came in before our answer cannot be TLS: somebody wants it to be taken for a part of the secure conversation.
    if (this.#dialog.leave().length > 0) throw protocolBreach('plain bytes between the request for TLS and its beginning');
    this.#raw.write(encodeOptionReply(OPTION.STARTTLS, REPLY.ACK));
    this.#socket = await acceptTls(this.#raw, tls);
    this.#dialog = new ByteDialog(this.#socket);
    this.#secure = true;
    this.#headers = 'simple';
    this.#chosen = undefined;
  }

  #useHeaders(data: Buffer, headers: 'structured' | 'extended'): number {
    if (data.length > 0) return REPLY.ERR_INVALID;
    if (headers === 'structured' && this.#headers === 'extended') return REPLY.ERR_EXT_HEADER_REQD;
    this.#headers = headers;
    return REPLY.ACK;
  }

  #list(data: Buffer): number {
    const exports = this.#policy.list();
    if (data.length > 0) return REPLY.ERR_INVALID;
    if (!exports) return REPLY.ERR_POLICY;
    for (const { name, description = '' } of exports) this.#reply(OPTION.LIST, REPLY.SERVER, encodeListedExport({ name, description }));
    return REPLY.ACK;
  }

  #choose(option: number, data: Buffer): Agreement | undefined {
    const request = parseInfoRequest(data);
    const served = request && this.#policy.find(request.name);
    if (!served) {
      this.#reply(option, request ? REPLY.ERR_UNKNOWN : REPLY.ERR_INVALID);
      return undefined;
    }
    for (const info of this.#infos(served, request.wanted)) this.#reply(option, REPLY.INFO, encodeExportInfo(info));
    if (option === OPTION.INFO) {
      this.#reply(option, REPLY.ACK);
      return undefined;
    }
    const agreement = this.#agree(served);
    this.#dialogEnd(encodeOptionReply(option, REPLY.ACK));
    return agreement;
  }

  #infos(served: NbdExport, wanted: readonly number[]): ExportInfo[] {
    const { disk, name, description } = served;
    const infos: ExportInfo[] = [{ info: INFO.EXPORT, size: disk.size, flags: transmissionFlags(served, this.#headers) }];
    if (wanted.includes(INFO.NAME)) infos.push({ info: INFO.NAME, name });
    if (wanted.includes(INFO.DESCRIPTION) && description !== undefined) infos.push({ info: INFO.DESCRIPTION, description });
    if (wanted.includes(INFO.BLOCK_SIZE)) infos.push({ info: INFO.BLOCK_SIZE, blockSize: blockSizeOf(served) });
    return infos;
  }

  #contexts(option: number, data: Buffer): number {
    if (option === OPTION.SET_META_CONTEXT) this.#chosen = undefined;
    const query = this.#headers === 'simple' ? undefined : parseContextQuery(data);
    const served = query && this.#policy.find(query.exportName);
    if (!served) return query ? REPLY.ERR_UNKNOWN : REPLY.ERR_INVALID;
    if (option === OPTION.LIST_META_CONTEXT) {
      for (const name of listContexts(served, query.queries)) this.#reply(option, REPLY.META_CONTEXT, encodeMetaContext({ id: 0, name }));
      return REPLY.ACK;
    }
    const contexts = selectContexts(served, query.queries);
    this.#chosen = { served, contexts };
    for (const { id, name } of contexts) this.#reply(option, REPLY.META_CONTEXT, encodeMetaContext({ id, name }));
    return REPLY.ACK;
  }

  #agree(served: NbdExport): Agreement {
    const contexts = this.#chosen?.served === served ? this.#chosen.contexts : [];
    return { socket: this.#socket, served, headers: this.#headers, contexts };
  }

  /** The last word; a client may have sent its first request right behind its option, and that must not be lost. */
  #dialogEnd(bytes: Buffer): void {
    this.#dialog.send(bytes);
    const early = this.#dialog.leave();
    if (early.length > 0) this.#socket.unshift(early);
  }

  #reply(option: number, kind: number, data?: Uint8Array): void {
    this.#dialog.send(encodeOptionReply(option, kind, data));
  }
}
