// The lies of a hostile server, as data: what it says at which moment, and how the client must end.

import { encodeBlockStatus } from '../../src/nbd/protocol/block-status.ts';
import { encodeChunkError, writeHole } from '../../src/nbd/protocol/chunk-payload.ts';
import { encodeExportInfo, INFO } from '../../src/nbd/protocol/export-info.ts';
import { encodeGreeting } from '../../src/nbd/protocol/handshake.ts';
import { encodeMetaContext } from '../../src/nbd/protocol/meta-context.ts';
import { OPTION } from '../../src/nbd/protocol/option.ts';
import { encodeOptionReply, REPLY } from '../../src/nbd/protocol/option-reply.ts';
import { CHUNK_TYPE, type ChunkHead, writeChunk, writeSimpleReply } from '../../src/nbd/protocol/reply.ts';
import type { Request } from '../../src/nbd/protocol/request.ts';
import type { ErrorCode } from '../../src/plumbing/errors.ts';
import type { ScriptedPeer, Style } from './scripted-server.ts';

export interface Lie {
  readonly name: string;
  /** What the client does. A read is of 4096 bytes at 8192, a status of 1 MiB at 0. */
  readonly act: 'open' | 'list' | 'read' | 'status';
  readonly code: ErrorCode;
  readonly tls?: boolean;
  script(peer: ScriptedPeer): Promise<void>;
}

const BASE = { id: 7, name: 'base:allocation' };
const ack = (option: number): Buffer => encodeOptionReply(option, REPLY.ACK);
const exportInfo = (size = 1 << 20, flags = 1): Buffer => encodeExportInfo({ info: INFO.EXPORT, size, flags });
const goInfo = (data: Uint8Array): Buffer => encodeOptionReply(OPTION.GO, REPLY.INFO, data);

function handshake(name: string, code: ErrorCode, script: (peer: ScriptedPeer) => Promise<void>, more: Partial<Lie> = {}): Lie {
  return { name, act: 'open', code, script, ...more };
}

/** Says `replies` in answer to GO, and then that all is well. */
function go(name: string, ...replies: Uint8Array[]): Lie {
  return handshake(name, 'NBD_PROTOCOL', async (peer) => {
    await peer.greet();
    await peer.optionsUntil(OPTION.GO, { style: 'simple' });
    peer.send(...replies, ack(OPTION.GO));
  });
}

function option(name: string, asked: number, ...replies: Uint8Array[]): Lie {
  return handshake(name, 'NBD_PROTOCOL', async (peer) => {
    await peer.greet();
    await peer.optionsUntil(asked, { style: 'structured' });
    peer.send(...replies);
  });
}

function refusal(name: string, kind: number, code: ErrorCode): Lie {
  return handshake(name, code, async (peer) => {
    await peer.greet();
    await peer.optionsUntil(OPTION.GO, { style: 'structured' });
    peer.send(encodeOptionReply(OPTION.GO, kind, Buffer.from('\u001b[31m<b>no</b>')));
  });
}

function startTls(name: string, code: ErrorCode, ...replies: Uint8Array[]): Lie {
  const script = async (peer: ScriptedPeer): Promise<void> => {
    await peer.greet();
    await peer.option();
    peer.send(Buffer.concat(replies));
  };
  return handshake(name, code, script, { tls: true });
}

function list(name: string, data: Buffer, endless = false): Lie {
  return {
    name,
    act: 'list',
    code: 'NBD_PROTOCOL',
    script: async (peer) => {
      await peer.greet();
      await peer.optionsUntil(OPTION.LIST, { style: 'structured' });
      const reply = encodeOptionReply(OPTION.LIST, REPLY.SERVER, data);
      for (let count = 0; count < (endless ? 1000 : 1); count++) peer.send(reply);
      peer.send(ack(OPTION.LIST));
    },
  };
}

const claim = (option_: number, kind: number, length: number): Buffer => {
  const bytes = encodeOptionReply(option_, kind);
  bytes.writeUInt32BE(length, 16);
  return bytes;
};

const withMagic = (bytes: Buffer): Buffer => {
  bytes[3] = 0x77;
  return bytes;
};

export const HANDSHAKE_LIES: readonly Lie[] = [
  handshake('greets like a web server', 'NBD_PROTOCOL', async (peer) => peer.send(Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'))),
  handshake('speaks the old style', 'NBD_PROTOCOL', async (peer) =>
    peer.send(Buffer.from('NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53', 'latin1'), Buffer.alloc(136)),
  ),
  handshake('speaks an unknown style', 'NBD_PROTOCOL', async (peer) => peer.send(Buffer.from('NBDMAGICIHAVENOT\0\x03', 'latin1'))),
  handshake('does not know the fixed newstyle', 'NBD_PROTOCOL', async (peer) => peer.send(encodeGreeting(0))),
  handshake('hangs up at once', 'CONNECTION_FAILED', async (peer) => void peer.socket.destroy()),
  handshake('says nothing', 'CONNECTION_FAILED', async () => undefined),
  handshake('greets so slowly that it never ends', 'CONNECTION_FAILED', async (peer) => {
    for (const byte of encodeGreeting(3)) {
      peer.send(Buffer.of(byte));
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }),
  option('answers with another magic number', OPTION.STRUCTURED_REPLY, withMagic(ack(OPTION.STRUCTURED_REPLY))),
  option('answers another option', OPTION.STRUCTURED_REPLY, ack(OPTION.LIST)),
  option('acknowledges with data', OPTION.STRUCTURED_REPLY, encodeOptionReply(OPTION.STRUCTURED_REPLY, REPLY.ACK, Buffer.alloc(3))),
  option('announces a reply of 1 GiB', OPTION.STRUCTURED_REPLY, claim(OPTION.STRUCTURED_REPLY, REPLY.ERR_UNSUP, 2 ** 30)),
  option(
    'informs where nothing was to be informed',
    OPTION.STRUCTURED_REPLY,
    encodeOptionReply(OPTION.STRUCTURED_REPLY, REPLY.INFO, exportInfo()),
  ),
  option('answers with a reply of no known kind', OPTION.STRUCTURED_REPLY, encodeOptionReply(OPTION.STRUCTURED_REPLY, 99)),
  option(
    'chooses a context nobody asked for',
    OPTION.SET_META_CONTEXT,
    encodeOptionReply(OPTION.SET_META_CONTEXT, REPLY.META_CONTEXT, encodeMetaContext({ id: 1, name: 'qemu:joe' })),
    ack(OPTION.SET_META_CONTEXT),
  ),
  option(
    'chooses a context twice',
    OPTION.SET_META_CONTEXT,
    encodeOptionReply(OPTION.SET_META_CONTEXT, REPLY.META_CONTEXT, encodeMetaContext(BASE)),
    encodeOptionReply(OPTION.SET_META_CONTEXT, REPLY.META_CONTEXT, encodeMetaContext({ ...BASE, id: 8 })),
    ack(OPTION.SET_META_CONTEXT),
  ),
  option(
    'names a context with bytes that are no text',
    OPTION.SET_META_CONTEXT,
    encodeOptionReply(OPTION.SET_META_CONTEXT, REPLY.META_CONTEXT, Buffer.from([0, 0, 0, 1, 0xff, 0xfe])),
    ack(OPTION.SET_META_CONTEXT),
  ),
  go('lets us in without a size'),
  go('tells a size in 11 bytes', goInfo(exportInfo().subarray(0, 11))),
  go('tells the size twice', goInfo(exportInfo()), goInfo(exportInfo(1 << 21))),
  go('tells flags without their first bit', goInfo(exportInfo(1 << 20, 2))),
  go('informs in one byte', goInfo(Buffer.alloc(1)), goInfo(exportInfo())),
  ...[
    { minimum: 3, preferred: 4096, maximum: 1 << 25 },
    { minimum: 131_072, preferred: 131_072, maximum: 1 << 25 },
    { minimum: 1, preferred: 100, maximum: 1 << 25 },
    { minimum: 0, preferred: 512, maximum: 1 << 25 },
    { minimum: 4096, preferred: 4096, maximum: 0 },
  ].map((blockSize) =>
    go(`demands blocks ${JSON.stringify(blockSize)}`, goInfo(exportInfo()), goInfo(encodeExportInfo({ info: INFO.BLOCK_SIZE, blockSize }))),
  ),
  go(
    'has a size that is no multiple of its blocks',
    goInfo(exportInfo(1_000_000)),
    goInfo(encodeExportInfo({ info: INFO.BLOCK_SIZE, blockSize: { minimum: 512, preferred: 4096, maximum: 1 << 25 } })),
  ),
  go('tells blocks in 13 bytes', goInfo(Buffer.concat([Buffer.from([0, 3]), Buffer.alloc(11)]))),
  go('describes the export with bytes that are no text', goInfo(Buffer.from([0, 2, 0xc3, 0x28])), goInfo(exportInfo())),
  go('goes on after it has let us in', goInfo(exportInfo()), ack(OPTION.GO), Buffer.alloc(16)),
  handshake('informs without end', 'NBD_PROTOCOL', async (peer) => {
    await peer.greet();
    await peer.optionsUntil(OPTION.GO, { style: 'simple' });
    const info = goInfo(Buffer.alloc(16_000, 9));
    for (let count = 0; count < 400; count++) peer.send(info);
  }),
  handshake('has an export of 2^53 bytes', 'DISK_SIZE_INVALID', async (peer) => {
    await peer.greet();
    await peer.optionsUntil(OPTION.GO, { style: 'simple' });
    const info = exportInfo();
    info.writeBigUInt64BE(2n ** 53n, 2);
    peer.send(goInfo(info), ack(OPTION.GO));
  }),
  handshake('has an export of 2^64 - 1 bytes', 'DISK_SIZE_INVALID', async (peer) => {
    await peer.greet();
    await peer.optionsUntil(OPTION.GO, { style: 'simple' });
    const info = exportInfo();
    info.writeBigUInt64BE(2n ** 64n - 1n, 2);
    peer.send(goInfo(info), ack(OPTION.GO));
  }),
  refusal('does not know the export', REPLY.ERR_UNKNOWN, 'EXPORT_NOT_FOUND'),
  refusal('wants TLS', REPLY.ERR_TLS_REQD, 'EXPORT_REFUSED'),
  refusal('forbids it', REPLY.ERR_POLICY, 'EXPORT_REFUSED'),
  refusal('refuses for no known reason', 0x8000_7777, 'EXPORT_REFUSED'),
  refusal('shuts down', REPLY.ERR_SHUTDOWN, 'CONNECTION_FAILED'),
  startTls('has no TLS', 'EXPORT_REFUSED', encodeOptionReply(OPTION.STARTTLS, REPLY.ERR_UNSUP)),
  startTls('forbids TLS', 'EXPORT_REFUSED', encodeOptionReply(OPTION.STARTTLS, REPLY.ERR_POLICY)),
  startTls('sends plain bytes between the agreement on TLS and TLS', 'NBD_PROTOCOL', ack(OPTION.STARTTLS), ack(OPTION.STRUCTURED_REPLY)),
  list('lists a name that is longer than the reply', Buffer.from([0, 0, 0, 200, 65])),
  list('lists a name that is no text', Buffer.from([0, 0, 0, 2, 0xff, 0xff])),
  list('lists a name with a NUL', Buffer.from([0, 0, 0, 2, 65, 0])),
  list('lists exports without end', Buffer.concat([Buffer.from([0, 0, 15, 160]), Buffer.alloc(8000, 65)]), true),
];

type Answer = (request: Request) => readonly Uint8Array[];

function during(act: 'read' | 'status', style: Style, name: string, answer: Answer, code: ErrorCode = 'NBD_PROTOCOL'): Lie {
  return {
    name: `${style}: ${name}`,
    act,
    code,
    script: async (peer) => {
      await peer.enter({ style, contexts: act === 'status' ? [BASE] : [] });
      const parts = answer(await peer.request());
      peer.send(...parts);
      if (parts.length === 0) peer.socket.destroy();
    },
  };
}

function simple(request: Request, error = 0, more: Partial<{ cookie: bigint }> = {}): Buffer {
  const bytes = Buffer.alloc(16);
  writeSimpleReply(bytes, { error, cookie: request.cookie, ...more });
  return bytes;
}

/** A chunk with its payload; what it says of itself can be bent by `more`. */
function chunk(request: Request, style: Style, type: number, payload: Uint8Array, more: Partial<ChunkHead> = {}): Buffer {
  const bytes = Buffer.alloc(style === 'extended' ? 32 : 20);
  const { cookie, offset } = request;
  writeChunk(bytes, { flags: 1, type, cookie, length: payload.length, ...(style === 'extended' && { offset }), ...more });
  return Buffer.concat([bytes, payload]);
}

function dataPayload(offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(8 + length, 0x55);
  bytes.writeBigUInt64BE(BigInt(offset));
  return bytes;
}

function holePayload(offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(12);
  writeHole(bytes, { offset, length });
  return bytes;
}

const { NONE, OFFSET_DATA, OFFSET_HOLE, BLOCK_STATUS, BLOCK_STATUS_EXT, ERROR, ERROR_OFFSET } = CHUNK_TYPE;
const NOTHING = Buffer.alloc(0);
const more = { flags: 0 };

function errorBytes(error: number, message = '', offset?: number): Buffer {
  return encodeChunkError({ error, message, ...(offset !== undefined && { offset }) });
}

/** Lies about a read that both chunked styles can tell. */
function readLies(style: 'structured' | 'extended'): Lie[] {
  const lie = (name: string, answer: (request: Request) => readonly Uint8Array[], code?: ErrorCode): Lie =>
    during('read', style, name, answer, code);
  const one =
    (type: number, payload: Uint8Array, bent: Partial<ChunkHead> = {}): Answer =>
    (request) => [chunk(request, style, type, payload, bent)];
  return [
    lie('ends without a word', () => [], 'CONNECTION_FAILED'),
    lie(
      'ends in the middle of the data',
      (r) => [chunk(r, style, OFFSET_DATA, dataPayload(8192, 4096)).subarray(0, 1000)],
      'CONNECTION_FAILED',
    ),
    lie('does not answer', () => [NOTHING], 'CONNECTION_FAILED'),
    lie('answers a request nobody made', one(OFFSET_DATA, dataPayload(8192, 4096), { cookie: 0xffff_ffff_ffff_ffffn })),
    lie('begins with another magic number', (r) => [withMagic(chunk(r, style, OFFSET_DATA, dataPayload(8192, 4096)))]),
    lie('answers with a simple reply', (r) => [simple(r), Buffer.alloc(4096)]),
    lie('fails with a simple reply', (r) => [simple(r, 5), Buffer.alloc(16)]),
    lie('sends data in front of what was asked for', one(OFFSET_DATA, dataPayload(8191, 4096))),
    lie('sends data behind what was asked for', one(OFFSET_DATA, dataPayload(8193, 4096))),
    lie('sends data at 2^64 - 1', (r) => [chunk(r, style, OFFSET_DATA, Buffer.concat([Buffer.alloc(8, 0xff), Buffer.alloc(4096)]))]),
    lie('sends more than was asked for', one(OFFSET_DATA, dataPayload(8192, 4097))),
    lie('sends no bytes as data', one(OFFSET_DATA, dataPayload(8192, 0))),
    lie('sends data without an offset', one(OFFSET_DATA, Buffer.alloc(7))),
    lie('announces 4 GiB of data', one(OFFSET_DATA, Buffer.alloc(8), { length: 2 ** 32 - 1 })),
    lie('sends a hole of 11 bytes', one(OFFSET_HOLE, Buffer.alloc(11))),
    lie('sends a hole of no length', one(OFFSET_HOLE, holePayload(8192, 0))),
    lie('sends a hole outside', one(OFFSET_HOLE, holePayload(8192, 4097))),
    lie('sends the same bytes twice', (r) => [
      chunk(r, style, OFFSET_DATA, dataPayload(8192, 4096), more),
      chunk(r, style, OFFSET_HOLE, holePayload(9000, 1)),
    ]),
    lie('sends overlapping pieces', (r) => [
      chunk(r, style, OFFSET_DATA, dataPayload(8192, 2048), more),
      chunk(r, style, OFFSET_DATA, dataPayload(10_239, 2049)),
    ]),
    lie('leaves a gap', (r) => [
      chunk(r, style, OFFSET_DATA, dataPayload(8192, 2047), more),
      chunk(r, style, OFFSET_DATA, dataPayload(10_240, 2048)),
    ]),
    lie('says done without data', one(NONE, NOTHING)),
    lie('goes on after an empty chunk', one(NONE, NOTHING, more)),
    lie('puts bytes into an empty chunk', one(NONE, Buffer.alloc(4))),
    lie(
      'answers a read with a block status',
      one(
        style === 'extended' ? BLOCK_STATUS_EXT : BLOCK_STATUS,
        encodeBlockStatus({ context: 7, descriptors: [{ length: 4096, flags: 0 }] }, style === 'extended'),
      ),
    ),
    lie('sends a chunk of no known type', one(77, NOTHING)),
    lie('sends an error of 5 bytes', one(ERROR, Buffer.alloc(5, 1))),
    lie('sends an error with a message that is not there', one(ERROR, Buffer.from([0, 0, 0, 5, 0, 9, 65]))),
    lie('sends an error with the number 0', one(ERROR, Buffer.alloc(6))),
    lie('sends an error outside of the request', one(ERROR_OFFSET, errorBytes(5, 'x', 12_288))),
    lie('announces an error of 1 MiB', one(ERROR, Buffer.alloc(8), { length: 1 << 20 })),
    lie('sends one byte at a time', (r) =>
      Array.from({ length: 4096 }, (_, at) => chunk(r, style, OFFSET_DATA, dataPayload(8192 + at, 1), at < 4095 ? more : {})),
    ),
    lie(
      'answers twice',
      (r) => [
        chunk(r, style, OFFSET_DATA, dataPayload(8192, 4096), more),
        chunk(r, style, ERROR, errorBytes(5)),
        chunk(r, style, NONE, NOTHING),
      ],
      'SOURCE_UNREADABLE',
    ),
    lie(
      'fails after it has sent all data',
      (r) => [chunk(r, style, OFFSET_DATA, dataPayload(8192, 4096), more), chunk(r, style, ERROR_OFFSET, errorBytes(5, '', 9000))],
      'SOURCE_UNREADABLE',
    ),
    lie('fails with a number nobody knows', one(ERROR, errorBytes(9999, 'zzz')), 'SOURCE_UNREADABLE'),
    lie('fails in a way nobody knows', one(0x8777, Buffer.concat([errorBytes(5, 'abc'), Buffer.alloc(16)])), 'SOURCE_UNREADABLE'),
    lie('shuts down', one(ERROR, errorBytes(108)), 'CONNECTION_FAILED'),
  ];
}

function statusLies(style: 'structured' | 'extended'): Lie[] {
  const extended = style === 'extended';
  const type = extended ? BLOCK_STATUS_EXT : BLOCK_STATUS;
  const status = (context: number, ...lengths: number[]): Buffer =>
    encodeBlockStatus({ context, descriptors: lengths.map((length) => ({ length, flags: 0 })) }, extended);
  const lie = (name: string, answer: Answer, code?: ErrorCode): Lie => during('status', style, name, answer, code);
  const one =
    (payload: Uint8Array, bent: Partial<ChunkHead> = {}): Answer =>
    (request) => [chunk(request, style, type, payload, bent)];
  return [
    lie('describes nothing', one(status(7))),
    lie('describes 0 bytes', one(status(7, 4096, 0))),
    lie('describes a part of a descriptor', one(status(7, 4096).subarray(0, -3))),
    lie('describes another context', one(status(8, 4096))),
    lie('describes a context twice', (r) => [chunk(r, style, type, status(7, 4096), more), chunk(r, style, type, status(7, 4096))]),
    lie('describes no context', (r) => [chunk(r, style, NONE, NOTHING)]),
    lie('goes on behind what was asked for', one(status(7, 1 << 20, 4096))),
    {
      name: `${style}: describes less than a block, again and again`,
      act: 'status',
      code: 'NBD_PROTOCOL',
      script: async (peer) => {
        await peer.enter({ style, contexts: [BASE], minimum: 4096 });
        while (true) peer.send(...one(status(7, 512))(await peer.request()));
      },
    },
    lie('announces 2^20 + 1 descriptors', one(NOTHING, { length: 16 * (2 ** 20 + 1) })),
    lie('answers a status with data', (r) => [chunk(r, style, OFFSET_DATA, dataPayload(0, 4096))]),
    lie('answers a status with a hole', (r) => [chunk(r, style, OFFSET_HOLE, holePayload(0, 4096))]),
    lie('answers a status with a simple word', (r) => [simple(r), Buffer.alloc(16)]),
    lie('fails', (r) => [chunk(r, style, ERROR, errorBytes(5))], 'SOURCE_UNREADABLE'),
  ];
}

export const TRANSMISSION_LIES: readonly Lie[] = [
  ...readLies('structured'),
  ...readLies('extended'),
  ...statusLies('structured'),
  ...statusLies('extended'),
  during('read', 'simple', 'fails', (r) => [simple(r, 5)], 'SOURCE_UNREADABLE'),
  during('read', 'simple', 'fails with a number nobody knows', (r) => [simple(r, 4711)], 'SOURCE_UNREADABLE'),
  during('read', 'simple', 'answers a request nobody made', (r) => [simple(r, 0, { cookie: 99n }), Buffer.alloc(4096)]),
  during('read', 'simple', 'sends a chunk', (r) => [chunk(r, 'structured', OFFSET_DATA, dataPayload(8192, 4096))]),
  during('read', 'simple', 'falls silent in the middle of the data', (r) => [simple(r), Buffer.alloc(4095)], 'CONNECTION_FAILED'),
  during('read', 'extended', 'names another offset', (r) => [chunk(r, 'extended', OFFSET_DATA, dataPayload(8192, 4096), { offset: 4096 })]),
  during('read', 'extended', 'sends a structured chunk', (r) => [chunk(r, 'structured', OFFSET_DATA, dataPayload(8192, 4096))]),
  during('read', 'extended', 'announces 2^60 bytes', (r) => {
    const bytes = chunk(r, 'extended', OFFSET_DATA, dataPayload(8192, 4096));
    bytes.writeBigUInt64BE(2n ** 60n, 24);
    return [bytes];
  }),
  during('status', 'extended', 'describes in the compact form', (r) => [
    chunk(r, 'extended', BLOCK_STATUS, encodeBlockStatus({ context: 7, descriptors: [{ length: 4096, flags: 0 }] }, false)),
  ]),
  during('status', 'extended', 'counts its descriptors wrongly', (r) => {
    const payload = encodeBlockStatus({ context: 7, descriptors: [{ length: 4096, flags: 0 }] }, true);
    payload.writeUInt32BE(2, 4);
    return [chunk(r, 'extended', BLOCK_STATUS_EXT, payload)];
  }),
  during('status', 'extended', 'uses bits of base:allocation that there are not', (r) => [
    chunk(r, 'extended', BLOCK_STATUS_EXT, encodeBlockStatus({ context: 7, descriptors: [{ length: 1 << 20, flags: 2 ** 40 }] }, true)),
  ]),
  during('status', 'extended', 'describes more bytes than there are numbers', (r) => {
    const payload = encodeBlockStatus({ context: 7, descriptors: [{ length: 4096, flags: 0 }] }, true);
    payload.writeBigUInt64BE(2n ** 64n - 1n, 8);
    return [chunk(r, 'extended', BLOCK_STATUS_EXT, payload)];
  }),
];
