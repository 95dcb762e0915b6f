// Every structure on the wire: what is encoded is parsed again, known bytes are what the specification says, and no bytes whatever crash a parser.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeBlockStatus, parseBlockStatus } from '../../src/nbd/protocol/block-status.ts';
import { encodeChunkError, parseChunkError, parseHole, writeHole } from '../../src/nbd/protocol/chunk-payload.ts';
import {
  blockSizeFault,
  type ExportInfo,
  encodeExportInfo,
  encodeInfoRequest,
  INFO,
  parseExportInfo,
  parseInfoRequest,
} from '../../src/nbd/protocol/export-info.ts';
import {
  encodeClientFlags,
  encodeExportAnswer,
  encodeGreeting,
  parseClientFlags,
  parseExportAnswer,
  parseGreeting,
} from '../../src/nbd/protocol/handshake.ts';
import { encodeContextQuery, encodeMetaContext, parseContextQuery, parseMetaContext } from '../../src/nbd/protocol/meta-context.ts';
import { encodeOption, OPTION_HEAD_LENGTH, parseOptionHead } from '../../src/nbd/protocol/option.ts';
import {
  encodeListedExport,
  encodeOptionReply,
  OPTION_REPLY_HEAD_LENGTH,
  parseListedExport,
  parseOptionReplyHead,
} from '../../src/nbd/protocol/option-reply.ts';
import { parseChunk, parseExtendedChunk, parseSimpleReply, writeChunk, writeSimpleReply } from '../../src/nbd/protocol/reply.ts';
import { COMMAND, COMMAND_FLAG, encodeRequest, parseRequest } from '../../src/nbd/protocol/request.ts';
import { isText } from '../../src/nbd/protocol/text.ts';
import { dataView } from '../../src/nbd/protocol/view.ts';
import { isChainkeepError } from '../../src/plumbing/errors.ts';

const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const u53 = fc.maxSafeNat();
const cookie = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const text = fc.string({ unit: 'grapheme', maxLength: 200 }).filter(isText);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

describe('what is encoded is parsed again', () => {
  it('handshake', () => {
    fc.assert(fc.property(u16, (flags) => void expect(parseGreeting(encodeGreeting(flags))).toBe(flags)));
    for (const flags of [0, 1, 2, 3]) expect(parseClientFlags(encodeClientFlags(flags))).toBe(flags);
    fc.assert(
      fc.property(u53, u16, fc.boolean(), (size, flags, zeros) => {
        const bytes = encodeExportAnswer({ size, flags }, zeros);
        expect(bytes.length).toBe(zeros ? 134 : 10);
        expect(parseExportAnswer(bytes)).toEqual({ size, flags });
      }),
    );
  });

  it('options and their replies', () => {
    const data = fc.uint8Array({ maxLength: 300 });
    fc.assert(
      fc.property(u32, data, (option, bytes) => {
        const encoded = encodeOption(option, bytes);
        expect(parseOptionHead(encoded)).toEqual({ option, length: bytes.length });
        expect(encoded.subarray(OPTION_HEAD_LENGTH)).toEqual(Buffer.from(bytes));
      }),
    );
    fc.assert(
      fc.property(u32, u32, data, (option, kind, bytes) => {
        const encoded = encodeOptionReply(option, kind, bytes);
        expect(parseOptionReplyHead(encoded)).toEqual({ option, kind, length: bytes.length });
        expect(encoded.length).toBe(OPTION_REPLY_HEAD_LENGTH + bytes.length);
      }),
    );
    fc.assert(
      fc.property(
        text,
        text,
        (name, description) => void expect(parseListedExport(encodeListedExport({ name, description }))).toEqual({ name, description }),
      ),
    );
  });

  it('choice of an export and metadata contexts', () => {
    fc.assert(
      fc.property(
        text,
        fc.array(u16, { maxLength: 20 }),
        (name, wanted) => void expect(parseInfoRequest(encodeInfoRequest({ name, wanted }))).toEqual({ name, wanted }),
      ),
    );
    const blockSize = fc.record({ minimum: u32, preferred: u32, maximum: u32 });
    const info: fc.Arbitrary<ExportInfo> = fc.oneof(
      fc.record({ info: fc.constant(INFO.EXPORT), size: u53, flags: u16 }),
      fc.record({ info: fc.constant(INFO.BLOCK_SIZE), blockSize }),
      fc.record({ info: fc.constant(INFO.NAME), name: text }),
      fc.record({ info: fc.constant(INFO.DESCRIPTION), description: text }),
    );
    fc.assert(fc.property(info, (value) => void expect(parseExportInfo(encodeExportInfo(value))).toEqual(value)));
    fc.assert(
      fc.property(
        text,
        fc.array(text, { maxLength: 8 }),
        (exportName, queries) =>
          void expect(parseContextQuery(encodeContextQuery({ exportName, queries }))).toEqual({ exportName, queries }),
      ),
    );
    fc.assert(
      fc.property(
        u32,
        text.filter((name) => name !== ''),
        (id, name) => void expect(parseMetaContext(encodeMetaContext({ id, name }))).toEqual({ id, name }),
      ),
    );
  });

  it('requests', () => {
    const request = (length: fc.Arbitrary<number>) => fc.record({ flags: u16, command: u16, cookie, offset: u53, length });
    fc.assert(fc.property(request(u32), (value) => void expect(parseRequest(dataView(encodeRequest(value, false)), false)).toEqual(value)));
    fc.assert(fc.property(request(u53), (value) => void expect(parseRequest(dataView(encodeRequest(value, true)), true)).toEqual(value)));
  });

  it('replies', () => {
    fc.assert(
      fc.property(u32, cookie, (error, value) => {
        const bytes = Buffer.alloc(16);
        writeSimpleReply(bytes, { error, cookie: value });
        expect(parseSimpleReply(dataView(bytes))).toEqual({ error, cookie: value });
      }),
    );
    fc.assert(
      fc.property(fc.record({ flags: u16, type: u16, cookie, length: u32 }), (chunk) => {
        const bytes = Buffer.alloc(20);
        writeChunk(bytes, chunk);
        expect(parseChunk(dataView(bytes))).toEqual(chunk);
      }),
    );
    fc.assert(
      fc.property(fc.record({ flags: u16, type: u16, cookie, offset: u53, length: u53 }), (chunk) => {
        const bytes = Buffer.alloc(32);
        writeChunk(bytes, chunk);
        expect(parseExtendedChunk(dataView(bytes))).toEqual(chunk);
      }),
    );
  });

  it('payloads of chunks', () => {
    fc.assert(
      fc.property(u53, u32, (offset, length) => {
        const bytes = Buffer.alloc(12);
        writeHole(bytes, { offset, length });
        expect(parseHole(bytes)).toEqual({ offset, length });
      }),
    );
    const error = fc.integer({ min: 1, max: 0xffff_ffff });
    fc.assert(
      fc.property(
        error,
        text,
        (number, message) =>
          void expect(parseChunkError(encodeChunkError({ error: number, message }), 'plain')).toEqual({ error: number, message }),
      ),
    );
    fc.assert(
      fc.property(
        error,
        text,
        u53,
        (number, message, offset) =>
          void expect(parseChunkError(encodeChunkError({ error: number, message, offset }), 'with offset')).toEqual({
            error: number,
            message,
            offset,
          }),
      ),
    );
    for (const [extended, most] of [
      [false, u32],
      [true, u53],
    ] as const) {
      const descriptor = fc.record({ length: most.filter((length) => length > 0), flags: most });
      fc.assert(
        fc.property(
          u32,
          fc.array(descriptor, { minLength: 1, maxLength: 50 }),
          (context, descriptors) =>
            void expect(parseBlockStatus(encodeBlockStatus({ context, descriptors }, extended), extended)).toEqual({
              context,
              descriptors,
            }),
        ),
      );
    }
  });
});

/** Taken by hand from the specification and its branch `extension-ext-header`: no peer here is new enough to check the extended ones. */
describe('known bytes', () => {
  const READ = { flags: 0, command: COMMAND.READ, cookie: 0x1122334455667788n, offset: 0x1_0000_0200, length: 4096 };

  it('of the handshake', () => {
    expect(hex(encodeGreeting(3))).toBe('4e42444d4147494349484156454f50540003');
    expect(hex(encodeOption(8))).toBe('49484156454f50540000000800000000');
    expect(hex(encodeOption(11))).toBe('49484156454f50540000000b00000000');
    expect(hex(encodeOptionReply(7, 1))).toBe('0003e889045565a9000000070000000100000000');
    expect(hex(encodeOptionReply(8, 0x8000_000a))).toBe('0003e889045565a9000000088000000a00000000');
  });

  it('of compact requests and replies', () => {
    expect(hex(encodeRequest(READ, false))).toBe('25609513000000001122334455667788000000010000020000001000');
    const simple = Buffer.alloc(16);
    writeSimpleReply(simple, { error: 5, cookie: READ.cookie });
    expect(hex(simple)).toBe('67446698000000051122334455667788');
    const chunk = Buffer.alloc(20);
    writeChunk(chunk, { flags: 1, type: 1, cookie: READ.cookie, length: 4104 });
    expect(hex(chunk)).toBe('668e33ef00010001112233445566778800001008');
  });

  it('of extended requests and replies', () => {
    expect(hex(encodeRequest({ ...READ, length: 2 ** 40 }, true))).toBe('21e41c7100000000112233445566778800000001000002000000010000000000');
    const write = { ...READ, flags: COMMAND_FLAG.PAYLOAD_LEN | COMMAND_FLAG.FUA, command: COMMAND.WRITE };
    expect(hex(encodeRequest(write, true))).toBe('21e41c7100210001112233445566778800000001000002000000000000001000');
    const chunk = Buffer.alloc(32);
    writeChunk(chunk, { flags: 1, type: 6, cookie: READ.cookie, offset: READ.offset, length: 24 });
    expect(hex(chunk)).toBe('6e8a278c00010006112233445566778800000001000002000000000000000018');
    expect(hex(encodeBlockStatus({ context: 9, descriptors: [{ length: 2 ** 40, flags: 3 }] }, true))).toBe(
      '000000090000000100000100000000000000000000000003',
    );
  });
});

describe('parsers', () => {
  const parsers: Readonly<Record<string, { readonly length?: number; readonly parse: (bytes: Buffer) => unknown }>> = {
    greeting: { length: 18, parse: parseGreeting },
    'client flags': { length: 4, parse: parseClientFlags },
    'option head': { length: 16, parse: parseOptionHead },
    'option reply head': { length: 20, parse: parseOptionReplyHead },
    'listed export': { parse: parseListedExport },
    'info request': { parse: parseInfoRequest },
    'export info': { parse: parseExportInfo },
    'context query': { parse: parseContextQuery },
    'meta context': { parse: parseMetaContext },
    'chunk error': { parse: (bytes) => parseChunkError(bytes, 'with offset') },
    'unknown error': { parse: (bytes) => parseChunkError(bytes, 'unknown') },
    'block status': { parse: (bytes) => parseBlockStatus(bytes, false) },
    'extended block status': { parse: (bytes) => parseBlockStatus(bytes, true) },
  };

  it.each(Object.entries(parsers))('of a %s answer or refuse any bytes', (_name, { length, parse }) => {
    const size = length === undefined ? { maxLength: 64 } : { minLength: length, maxLength: length };
    fc.assert(
      fc.property(fc.uint8Array(size), (bytes) => {
        try {
          parse(Buffer.from(bytes));
        } catch (error) {
          if (!isChainkeepError(error, 'NBD_PROTOCOL')) throw error;
        }
      }),
      { numRuns: 500 },
    );
  });

  it('judge sizes of blocks', () => {
    const fine = { minimum: 1, preferred: 4096, maximum: 32 * 2 ** 20 };
    for (const good of [{}, { minimum: 65_536, preferred: 65_536 }, { maximum: 0xffff_ffff }, { minimum: 512, maximum: 0xffff_ffff }])
      expect(blockSizeFault({ ...fine, ...good }), JSON.stringify(good)).toBeUndefined();
    for (const bad of [
      { minimum: 0 },
      { minimum: 3 },
      { minimum: 131_072, preferred: 131_072 },
      { preferred: 256 },
      { preferred: 0 },
      { maximum: 0 },
      { minimum: 512, maximum: 1000 },
    ])
      expect(blockSizeFault({ ...fine, ...bad }), JSON.stringify(bad)).toBeDefined();
  });
});
