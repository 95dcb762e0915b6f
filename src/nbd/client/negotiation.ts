// The negotiation with one server on one socket: from its greeting to the choice of an export.
// Every answer is checked before it is used; what the server does not support is left out, what was asked for and is refused is an error.

import type { Duplex } from 'node:stream';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { endSoftly } from '../end-softly.ts';
import { protocolBreach } from '../protocol/breach.ts';
import { type BlockSize, blockSizeFault, DEFAULT_BLOCK_SIZE, encodeInfoRequest, INFO, parseExportInfo } from '../protocol/export-info.ts';
import {
  CLIENT_FLAGS_LENGTH,
  EXPORT_ANSWER_LENGTH,
  EXPORT_ANSWER_ZEROS,
  encodeClientFlags,
  GREETING_LENGTH,
  HANDSHAKE_FLAG,
  parseExportAnswer,
  parseGreeting,
} from '../protocol/handshake.ts';
import { encodeContextQuery, type MetaContext, parseMetaContext } from '../protocol/meta-context.ts';
import { encodeOption, OPTION } from '../protocol/option.ts';
import { type ListedExport, parseListedExport, REPLY } from '../protocol/option-reply.ts';
import { hasFlag } from '../protocol/transmission-flags.ts';
import { startTls, type TlsWish } from './dial.ts';
import { OptionDialog } from './option-dialog.ts';
import { refusedBy, tlsRefused } from './refusal.ts';

/** How requests and replies look: `simple` is what every server knows. */
export type HeaderStyle = 'simple' | 'structured' | 'extended';

export interface ExportFacts {
  /** Bytes. */
  readonly size: number;
  /** Transmission flags. */
  readonly flags: number;
  readonly blockSize: BlockSize;
  readonly name?: string;
  readonly description?: string;
}

export class Negotiation {
  readonly #address: string;
  #socket: Duplex;
  #dialog: OptionDialog;
  #zeros = true;
  #style: HeaderStyle = 'simple';

  /** `address`: as errors may show it. Whoever opened the socket bounds the time and closes it on any error. */
  constructor(socket: Duplex, address: string) {
    this.#socket = socket;
    this.#address = address;
    this.#dialog = new OptionDialog(socket);
  }

  get socket(): Duplex {
    return this.#socket;
  }

  get style(): HeaderStyle {
    return this.#style;
  }

  /** Greeting, TLS where it is wished for, then the best headers that both sides know, up to `best`. */
  async begin(tls: TlsWish | undefined, best: HeaderStyle): Promise<void> {
    const flags = parseGreeting(await this.#dialog.take(GREETING_LENGTH));
    if ((flags & HANDSHAKE_FLAG.FIXED_NEWSTYLE) === 0) throw protocolBreach('it does not know the fixed newstyle', { flags });
    this.#zeros = (flags & HANDSHAKE_FLAG.NO_ZEROES) === 0;
    const answer = encodeClientFlags(HANDSHAKE_FLAG.FIXED_NEWSTYLE | (this.#zeros ? 0 : HANDSHAKE_FLAG.NO_ZEROES));
    this.#dialog.send(answer.subarray(0, CLIENT_FLAGS_LENGTH));
    if (tls) await this.#beginTls(tls);
    if (best === 'extended' && (await this.#enables(OPTION.EXTENDED_HEADERS))) this.#style = 'extended';
    else if (best !== 'simple' && (await this.#enables(OPTION.STRUCTURED_REPLY))) this.#style = 'structured';
  }

  async #beginTls(tls: TlsWish): Promise<void> {
    const { kind } = await this.#dialog.ask(OPTION.STARTTLS);
    if (kind !== REPLY.ACK) throw tlsRefused(this.#address, kind);
    // Whatever is in front of the first TLS record was put there by somebody on the way.
    if (this.#dialog.leave().length > 0) throw protocolBreach('plain bytes between the agreement on TLS and its beginning');
    this.#socket = await startTls(this.#socket, tls);
    this.#dialog = new OptionDialog(this.#socket);
  }

  async #enables(option: number): Promise<boolean> {
    const { kind } = await this.#dialog.ask(option);
    if (kind === REPLY.ERR_TLS_REQD || kind === REPLY.ERR_SHUTDOWN) throw refusedBy(this.#address, option, kind);
    return kind === REPLY.ACK;
  }

  /** Names of all contexts that an export has; none where the server cannot say. */
  async listContexts(exportName: string): Promise<readonly string[]> {
    if (this.#style === 'simple') return [];
    const query = encodeContextQuery({ exportName, queries: [] });
    const { kind, data } = await this.#dialog.ask(OPTION.LIST_META_CONTEXT, query, REPLY.META_CONTEXT);
    return kind === REPLY.ACK ? data.map((reply) => parseMetaContext(reply).name) : [];
  }

  /** Chooses contexts for the transmission; answers those that the server has. */
  async setContexts(exportName: string, wanted: readonly string[]): Promise<readonly MetaContext[]> {
    if (this.#style === 'simple' || wanted.length === 0) return [];
    const query = encodeContextQuery({ exportName, queries: wanted });
    const { kind, data } = await this.#dialog.ask(OPTION.SET_META_CONTEXT, query, REPLY.META_CONTEXT);
    if (kind !== REPLY.ACK) return [];
    const contexts = data.map(parseMetaContext);
    for (const { name } of contexts) if (!wanted.includes(name)) throw protocolBreach('it chose a metadata context that nobody asked for');
    const count = contexts.length;
    if (new Set(contexts.map(({ id }) => id)).size < count || new Set(contexts.map(({ name }) => name)).size < count)
      throw protocolBreach('it chose a metadata context twice');
    return contexts;
  }

  /** What there is to know of an export, without entering transmission. Undefined where the server cannot say. */
  async info(exportName: string): Promise<ExportFacts | undefined> {
    return this.#choose(OPTION.INFO, exportName);
  }

  /** Enters transmission: no option can follow. Throws EXPORT_NOT_FOUND, EXPORT_REFUSED and NBD_PROTOCOL. */
  async go(exportName: string): Promise<ExportFacts> {
    const facts = (await this.#choose(OPTION.GO, exportName)) ?? (await this.#goByName(exportName));
    // The server has nothing to say before it is asked.
    if (this.#dialog.leave().length > 0) throw protocolBreach('it sent more than the answer to the choice of an export');
    return facts;
  }

  async #choose(option: number, name: string): Promise<ExportFacts | undefined> {
    const request = encodeInfoRequest({ name, wanted: [INFO.BLOCK_SIZE, INFO.NAME, INFO.DESCRIPTION] });
    const { kind, data } = await this.#dialog.ask(option, request, REPLY.INFO);
    if (kind === REPLY.ERR_UNSUP && this.#style !== 'extended') return undefined;
    if (kind !== REPLY.ACK) throw refusedBy(this.#address, option, kind);
    return collectFacts(data);
  }

  /** The way of servers that do not know GO: they close the connection when they do not have the export. */
  async #goByName(name: string): Promise<ExportFacts> {
    this.#dialog.send(encodeOption(OPTION.EXPORT_NAME, Buffer.from(name)));
    const { size, flags } = parseExportAnswer(await this.#dialog.take(EXPORT_ANSWER_LENGTH));
    if (this.#zeros) await this.#dialog.take(EXPORT_ANSWER_ZEROS);
    return checkedFacts({ size, flags, blockSize: DEFAULT_BLOCK_SIZE });
  }

  /** Throws EXPORT_REFUSED where the server does not tell. */
  async list(): Promise<readonly ListedExport[]> {
    const { kind, data } = await this.#dialog.ask(OPTION.LIST, undefined, REPLY.SERVER);
    if (kind !== REPLY.ACK) throw refusedBy(this.#address, OPTION.LIST, kind);
    return data.map(parseListedExport);
  }

  /** The polite end, without waiting for the answer. */
  abort(): void {
    this.#dialog.send(encodeOption(OPTION.ABORT));
    endSoftly(this.#socket);
  }
}

function collectFacts(replies: readonly Buffer[]): ExportFacts {
  let size: number | undefined;
  let flags = 0;
  let blockSize: BlockSize | undefined;
  let name: string | undefined;
  let description: string | undefined;
  for (const reply of replies) {
    const info = parseExportInfo(reply);
    if (info?.info === INFO.EXPORT) {
      if (size !== undefined) throw protocolBreach('it tells the size of the export twice');
      ({ size, flags } = info);
    } else if (info?.info === INFO.BLOCK_SIZE) {
      if (blockSize) throw protocolBreach('it tells the block sizes of the export twice');
      blockSize = info.blockSize;
    } else if (info?.info === INFO.NAME) name = info.name;
    else if (info?.info === INFO.DESCRIPTION) description = info.description;
  }
  if (size === undefined) throw protocolBreach('it lets us in without telling the size of the export');
  const texts = { ...(name !== undefined && { name }), ...(description !== undefined && { description }) };
  return checkedFacts({ size, flags, blockSize: blockSize ?? DEFAULT_BLOCK_SIZE, ...texts });
}

function checkedFacts(facts: ExportFacts): ExportFacts {
  const { size, flags, blockSize } = facts;
  if (!Number.isSafeInteger(size))
    throw new ChainkeepError('DISK_SIZE_INVALID', 'the NBD server says that the export has 2^53 bytes or more', {
      advice: 'such an export cannot be used',
    });
  if (!hasFlag(flags, 'HAS_FLAGS')) throw protocolBreach(`transmission flags ${flags} without their first bit`, { flags });
  const fault = blockSizeFault(blockSize);
  if (fault !== undefined) throw protocolBreach(`sizes of blocks that cannot be: ${fault}`);
  if (size % blockSize.minimum !== 0)
    throw protocolBreach(`an export of ${size} bytes in blocks of ${blockSize.minimum}`, { size, block_size: blockSize.minimum });
  return facts;
}
