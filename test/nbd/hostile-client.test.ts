// A client that breaks the rules, or only bends them: what it may, it gets; what it may not, is refused; and the server goes on for the others.

import { statSync } from 'node:fs';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { encodeInfoRequest, INFO } from '../../src/nbd/protocol/export-info.ts';
import { encodeContextQuery } from '../../src/nbd/protocol/meta-context.ts';
import { encodeOption, OPTION } from '../../src/nbd/protocol/option.ts';
import { REPLY } from '../../src/nbd/protocol/option-reply.ts';
import { CHUNK_TYPE } from '../../src/nbd/protocol/reply.ts';
import { COMMAND, COMMAND_FLAG, type Request } from '../../src/nbd/protocol/request.ts';
import { type NbdServer, openNbdServer } from '../../src/nbd/server/nbd-server.ts';
import { peerFolder } from './nbd-peers.ts';
import { RawClient } from './raw-client.ts';
import type { Style } from './scripted-server.ts';
import { memoryDisk } from './served-disk.ts';

const SIZE = 4 << 20;
const scratch = peerFolder();
const disk = memoryDisk(SIZE, 0);
const writable = memoryDisk(SIZE);
const problems: unknown[] = [];
let server: NbdServer;
let client: RawClient;

beforeAll(async () => {
  const exports = [
    { name: 'disk', disk },
    { name: 'rw', disk: writable, changes: writable },
  ];
  server = await openNbdServer({ listen: { kind: 'unix', path: scratch('s') }, exports, onProblem: (error) => problems.push(error) });
});
afterAll(() => server.close());

beforeEach(async () => {
  client?.close();
  client = await RawClient.open(server.address);
});

async function expectAlive(): Promise<void> {
  const other = await RawClient.open(server.address);
  await other.enter('structured');
  other.request({ offset: 0, length: 4096 });
  const [message] = await other.reply();
  expect(message?.payload.subarray(8).equals(disk.bytes.subarray(0, 4096))).toBe(true);
  other.close();
}

const claim = (option: number, length: number): Buffer => {
  const bytes = encodeOption(option);
  bytes.writeUInt32BE(length, 12);
  return bytes;
};
const goFor = (name: string): Buffer => encodeInfoRequest({ name, wanted: [] });
const bent = (bytes: Buffer, at: number, value: number): Buffer => {
  bytes.writeUInt32BE(value, at);
  return bytes;
};

describe('ends the connection of a client that', () => {
  it.each<[string, (c: RawClient) => Promise<void>]>([
    [
      'has flags nobody knows',
      async (c) => {
        await c.greet(7);
      },
    ],
    [
      'begins an option with another magic number',
      async (c) => {
        await c.greet();
        c.send(Buffer.alloc(16, 0x49));
      },
    ],
    [
      'announces an option of 64 MiB',
      async (c) => {
        await c.greet();
        c.send(claim(OPTION.LIST, 64 << 20));
      },
    ],
    [
      'announces an option of 64 KiB and a byte',
      async (c) => {
        await c.greet();
        c.send(claim(99, 65_537));
      },
    ],
    [
      'asks without the fixed newstyle',
      async (c) => {
        await c.greet(0);
        c.send(encodeOption(OPTION.LIST));
      },
    ],
    [
      'asks by name for what is not there',
      async (c) => {
        await c.greet();
        c.send(encodeOption(OPTION.EXPORT_NAME, Buffer.from('nope')));
      },
    ],
    [
      'asks by name after extended headers',
      async (c) => {
        await c.greet();
        await c.ask(OPTION.EXTENDED_HEADERS);
        c.send(encodeOption(OPTION.EXPORT_NAME, Buffer.from('disk')));
      },
    ],
    [
      'asks for ever',
      async (c) => {
        await c.greet();
        c.send(...Array.from({ length: 1025 }, () => encodeOption(99)));
      },
    ],
    [
      'begins a request with another magic number',
      async (c) => {
        await c.enter('structured');
        c.send(Buffer.alloc(28, 0x25));
      },
    ],
    [
      'sends compact requests after extended headers',
      async (c) => {
        await c.enter('extended');
        c.request({ length: 1 });
        c.send(Buffer.alloc(4));
      },
    ],
    [
      'writes more than 32 MiB',
      async (c) => {
        await c.enter('structured', [], 'rw');
        c.request({ command: COMMAND.WRITE, length: (32 << 20) + 1 });
      },
    ],
    [
      'sends a payload of 2^50 bytes',
      async (c) => {
        await c.enter('extended', [], 'rw');
        c.request({ command: COMMAND.WRITE, flags: COMMAND_FLAG.PAYLOAD_LEN, length: 2 ** 50 }, true);
      },
    ],
    [
      'says goodbye',
      async (c) => {
        await c.enter('simple');
        c.request({ command: COMMAND.DISC });
      },
    ],
  ])('%s', async (_name, act) => {
    await act(client);
    await client.closed();
    await expectAlive();
  });
});

describe('refuses, and stays in step with, a client that', () => {
  it.each<[string, number, Uint8Array | undefined, number]>([
    ['lists with data', OPTION.LIST, Buffer.alloc(1), REPLY.ERR_INVALID],
    ['lists where that is not allowed', OPTION.LIST, undefined, REPLY.ERR_POLICY],
    ['wants structured replies with data', OPTION.STRUCTURED_REPLY, Buffer.alloc(4), REPLY.ERR_INVALID],
    ['wants extended headers with data', OPTION.EXTENDED_HEADERS, Buffer.alloc(4), REPLY.ERR_INVALID],
    ['wants TLS with data', OPTION.STARTTLS, Buffer.alloc(4), REPLY.ERR_INVALID],
    ['wants TLS where there is none', OPTION.STARTTLS, undefined, REPLY.ERR_POLICY],
    ['asks for an unknown option', 77, Buffer.alloc(65_536), REPLY.ERR_UNSUP],
    ['asks for an export that is not there', OPTION.GO, goFor('nope'), REPLY.ERR_UNKNOWN],
    ['asks for the default export', OPTION.GO, goFor(''), REPLY.ERR_UNKNOWN],
    ['asks without a name', OPTION.GO, Buffer.alloc(3), REPLY.ERR_INVALID],
    ['asks for a name that is longer than the option', OPTION.GO, bent(goFor('disk'), 0, 5), REPLY.ERR_INVALID],
    ['asks for a name of 2^32 - 1 bytes', OPTION.GO, bent(goFor('disk'), 0, 0xffff_ffff), REPLY.ERR_INVALID],
    [
      'asks for a name of 4097 bytes',
      OPTION.GO,
      Buffer.concat([Buffer.from([0, 0, 16, 1]), Buffer.alloc(4097, 65), Buffer.alloc(2)]),
      REPLY.ERR_INVALID,
    ],
    [
      'asks for a name with a NUL',
      OPTION.GO,
      Buffer.concat([Buffer.from([0, 0, 0, 3]), Buffer.from('d\0k'), Buffer.alloc(2)]),
      REPLY.ERR_INVALID,
    ],
    [
      'asks for a name that is no text',
      OPTION.INFO,
      Buffer.concat([Buffer.from([0, 0, 0, 2, 0xff, 0xfe]), Buffer.alloc(2)]),
      REPLY.ERR_INVALID,
    ],
    [
      'asks for contexts before structured replies',
      OPTION.SET_META_CONTEXT,
      encodeContextQuery({ exportName: 'disk', queries: [] }),
      REPLY.ERR_INVALID,
    ],
  ])('%s', async (_name, option, data, kind) => {
    await client.greet();
    expect((await client.ask(option, data)).kind).toBe(kind);
    expect((await client.ask(OPTION.INFO, goFor('disk'))).kind).toBe(REPLY.ACK);
  });

  it('wants structured replies after extended headers', async () => {
    await client.greet();
    expect((await client.ask(OPTION.EXTENDED_HEADERS)).kind).toBe(REPLY.ACK);
    expect((await client.ask(OPTION.STRUCTURED_REPLY)).kind).toBe(REPLY.ERR_EXT_HEADER_REQD);
  });

  it('asks for contexts in data that do not add up', async () => {
    await client.greet();
    await client.ask(OPTION.STRUCTURED_REPLY);
    const query = encodeContextQuery({ exportName: 'disk', queries: ['base:allocation'] });
    for (const data of [
      query.subarray(0, -1),
      Buffer.concat([query, Buffer.alloc(1)]),
      bent(Buffer.from(query), 8, 0xffff_ffff),
      Buffer.alloc(0),
    ])
      expect((await client.ask(OPTION.SET_META_CONTEXT, data)).kind).toBe(REPLY.ERR_INVALID);
    expect((await client.ask(OPTION.SET_META_CONTEXT, encodeContextQuery({ exportName: 'nope', queries: [] }))).kind).toBe(
      REPLY.ERR_UNKNOWN,
    );
  });
});

describe('lets a client', () => {
  it('leave politely', async () => {
    await client.greet();
    expect((await client.ask(OPTION.ABORT)).kind).toBe(REPLY.ACK);
    await client.closed();
  });

  it.each([
    [3, 10],
    [1, 134],
    [0, 134],
  ])('choose an export by name, with flags %i', async (flags, length) => {
    await client.greet(flags);
    client.send(encodeOption(OPTION.EXPORT_NAME, Buffer.from('disk')));
    const answer = await client.take(length);
    expect(Number(answer.readBigUInt64BE(0))).toBe(SIZE);
    expect(answer.subarray(10).equals(Buffer.alloc(length - 10))).toBe(true);
    client.request({ offset: 100, length: 200 });
    expect((await client.message(200)).payload.equals(disk.bytes.subarray(100, 300))).toBe(true);
  });

  it('send its first request right behind its choice', async () => {
    await client.greet();
    client.send(
      Buffer.concat([
        encodeOption(OPTION.GO, goFor('disk')),
        Buffer.from('25609513000000000000000000000009000000000000000000000010', 'hex'),
      ]),
    );
    await client.take(20 + 12 + 20);
    expect((await client.message(16)).payload.equals(disk.bytes.subarray(0, 16))).toBe(true);
  });

  it('ask what sizes to keep to', async () => {
    await client.greet();
    const { data } = await client.ask(OPTION.INFO, encodeInfoRequest({ name: 'disk', wanted: [INFO.BLOCK_SIZE, INFO.NAME, 99] }));
    expect(data.map((reply) => reply.readUInt16BE(0))).toEqual([INFO.EXPORT, INFO.NAME, INFO.BLOCK_SIZE]);
  });

  it('choose and list contexts by the rules of each', async () => {
    await client.greet();
    await client.ask(OPTION.STRUCTURED_REPLY);
    const count = async (option: number, ...queries: string[]): Promise<number> =>
      (await client.ask(option, encodeContextQuery({ exportName: 'disk', queries }))).data.length;
    expect(await count(OPTION.LIST_META_CONTEXT)).toBe(1);
    expect(await count(OPTION.LIST_META_CONTEXT, 'base:')).toBe(1);
    expect(await count(OPTION.LIST_META_CONTEXT, 'other:', 'nocolon')).toBe(0);
    expect(await count(OPTION.SET_META_CONTEXT, 'base:')).toBe(0);
    expect(await count(OPTION.SET_META_CONTEXT)).toBe(0);
    expect(await count(OPTION.SET_META_CONTEXT, 'other:x', 'nocolon', 'base:allocation')).toBe(1);
  });
});

describe('contexts count only', () => {
  const set = (exportName: string, ...queries: string[]) =>
    client.ask(OPTION.SET_META_CONTEXT, encodeContextQuery({ exportName, queries }));
  async function statusError(): Promise<number> {
    await client.ask(OPTION.GO, goFor('disk'));
    client.request({ command: COMMAND.BLOCK_STATUS, length: 4096 });
    return (await client.message()).error;
  }
  beforeEach(async () => {
    await client.greet();
    await client.ask(OPTION.STRUCTURED_REPLY);
  });

  it('when they were asked for', async () => expect(await statusError()).toBe(22));
  it('for the export they were asked for', async () => {
    await set('rw', 'base:allocation');
    expect(await statusError()).toBe(22);
  });
  it('until the next choice', async () => {
    await set('disk', 'base:allocation');
    await set('disk', 'base:');
    expect(await statusError()).toBe(22);
  });
  it('until the next choice, also when that fails', async () => {
    await set('disk', 'base:allocation');
    await set('nope', 'base:allocation');
    expect(await statusError()).toBe(22);
  });
  it('and then they do', async () => {
    await set('disk', 'base:allocation');
    expect(await statusError()).toBe(0);
  });
});

describe('answers', () => {
  const cases: [string, Style, string, Partial<Request>, number, number?][] = [];
  for (const style of ['simple', 'structured', 'extended'] as const) {
    const payload = style === 'extended' ? COMMAND_FLAG.PAYLOAD_LEN : 0;
    cases.push(
      ['a read behind the end', style, 'disk', { offset: SIZE - 1, length: 2 }, 22],
      ['a read that wraps', style, 'disk', { offset: 2 ** 53 - 2, length: 8 }, 22],
      ['a read of nothing', style, 'disk', { length: 0 }, 0],
      ['a read of nothing at the end', style, 'disk', { offset: SIZE, length: 0 }, 0],
      ['an unknown command', style, 'disk', { command: 42 }, 22],
      ['a resize', style, 'disk', { command: 8, length: 1 }, 22],
      ['a wish to cache', style, 'disk', { command: COMMAND.CACHE, length: 512 }, 22],
      ['an unknown flag', style, 'disk', { flags: 1 << 9, length: 512 }, 22],
      ['a durable read', style, 'disk', { flags: COMMAND_FLAG.FUA, length: 512 }, 22],
      ['a write to what is read-only', style, 'disk', { command: COMMAND.WRITE, flags: payload, length: 4096 }, 1, 4096],
      ['zeros for what is read-only', style, 'disk', { command: COMMAND.WRITE_ZEROES, length: 512 }, 1],
      ['a trim of what is read-only', style, 'disk', { command: COMMAND.TRIM, length: 512 }, 1],
      ['a flush of what is read-only', style, 'disk', { command: COMMAND.FLUSH }, 22],
      ['a write behind the end', style, 'rw', { command: COMMAND.WRITE, flags: payload, offset: SIZE - 512, length: 1024 }, 28, 1024],
      ['zeros behind the end', style, 'rw', { command: COMMAND.WRITE_ZEROES, offset: SIZE, length: 1 }, 28],
      ['a trim behind the end', style, 'rw', { command: COMMAND.TRIM, offset: SIZE, length: 1 }, 22],
      ['a flush of a range', style, 'rw', { command: COMMAND.FLUSH, offset: 512, length: 512 }, 22],
      [
        'fast zeros, which were not offered',
        style,
        'rw',
        { command: COMMAND.WRITE_ZEROES, flags: COMMAND_FLAG.FAST_ZERO, length: 512 },
        22,
      ],
      ['a status without a context', style, 'disk', { command: COMMAND.BLOCK_STATUS, length: 512 }, 22],
      ['a write of nothing', style, 'rw', { command: COMMAND.WRITE, flags: payload, length: 0 }, 0],
    );
  }
  cases.push(
    ['a read that is not to be cut, without chunks', 'simple', 'disk', { flags: COMMAND_FLAG.DF, length: 512 }, 22],
    ['a payload length in the compact form', 'structured', 'disk', { flags: COMMAND_FLAG.PAYLOAD_LEN, length: 512 }, 22],
    ['a write without its payload flag', 'extended', 'rw', { command: COMMAND.WRITE, length: 512 }, 22],
    ['a read with a payload', 'extended', 'disk', { flags: COMMAND_FLAG.PAYLOAD_LEN, length: 512 }, 22, 512],
    ['a status with a payload', 'extended', 'disk', { command: COMMAND.BLOCK_STATUS, flags: COMMAND_FLAG.PAYLOAD_LEN, length: 12 }, 22, 12],
    ['a trim of 2^40 bytes', 'extended', 'rw', { command: COMMAND.TRIM, length: 2 ** 40 }, 22],
  );

  it.each(cases)('%s (%s)', async (_name, style, name, request, error, payload = 0) => {
    await client.enter(style, [], name);
    const extended = style === 'extended';
    client.request({ ...request, cookie: 0xfedc_ba98_7654_3210n }, extended, Buffer.alloc(payload));
    const reply = await client.reply();
    expect(reply.map((message) => message.error)).toEqual([error]);
    expect(reply[0]?.cookie).toBe(0xfedc_ba98_7654_3210n);
    expect(reply[0]?.form).not.toBe(extended ? 'simple' : 'extended');
    if (style === 'structured' && (request.command ?? 0) === COMMAND.READ) expect(reply[0]?.form).toBe('chunk');
    // In step: the next request is understood.
    client.request({ cookie: 5n, offset: 512, length: 512 }, extended);
    const next = await client.reply(512);
    expect(
      next[0]?.payload.subarray(style === 'simple' ? 0 : 8).equals((name === 'disk' ? disk : writable).bytes.subarray(512, 1024)),
    ).toBe(true);
  });

  it('an uncut read with one chunk, a long one with several', async () => {
    await client.enter('structured');
    client.request({ flags: COMMAND_FLAG.DF, offset: 1, length: 3 << 20 });
    const uncut = await client.reply();
    expect(uncut.map(({ type }) => type)).toEqual([CHUNK_TYPE.OFFSET_DATA, CHUNK_TYPE.NONE]);
    expect(uncut[0]?.payload.subarray(8).equals(disk.bytes.subarray(1, 1 + (3 << 20)))).toBe(true);
    client.request({ offset: 1, length: 3 << 20 });
    const cut = await client.reply();
    expect(cut.length).toBe(3);
    expect(Buffer.concat(cut.map(({ payload }) => payload.subarray(8))).equals(disk.bytes.subarray(1, 1 + (3 << 20)))).toBe(true);
  });

  it.each(['structured', 'extended'] as const)('a status with exactly what was asked for (%s)', async (style) => {
    await client.enter(style, ['base:allocation']);
    const extended = style === 'extended';
    const ask = async (request: Partial<Request>): Promise<number[]> => {
      client.request({ command: COMMAND.BLOCK_STATUS, ...request }, extended);
      const [message] = await client.reply();
      const bytes = message?.payload.subarray(extended ? 8 : 4) ?? Buffer.alloc(0);
      const size = extended ? 16 : 8;
      return Array.from({ length: bytes.length / size }, (_, at) =>
        extended ? Number(bytes.readBigUInt64BE(at * size)) : bytes.readUInt32BE(at * size),
      );
    };
    expect(await ask({ offset: 0, length: 20_480 })).toEqual([12_288, 4096, 4096]);
    expect(await ask({ offset: 100, length: 13_000 })).toEqual([12_188, 812]);
    expect(await ask({ offset: 0, length: 20_480, flags: COMMAND_FLAG.REQ_ONE })).toEqual([12_288]);
    expect(await ask({ offset: 0, length: 512, flags: COMMAND_FLAG.REQ_ONE })).toEqual([512]);
  });

  it('changes in the order and with the durability that was asked for', async () => {
    await client.enter('structured', [], 'rw');
    writable.log.length = 0;
    const bytes = Buffer.alloc(3 << 20, 9);
    client.request({ command: COMMAND.WRITE, flags: COMMAND_FLAG.FUA, offset: 4096, length: bytes.length }, false, bytes);
    await client.message();
    client.request({ command: COMMAND.WRITE_ZEROES, flags: COMMAND_FLAG.NO_HOLE, offset: 8192, length: 100 });
    await client.message();
    client.request({ command: COMMAND.TRIM, flags: COMMAND_FLAG.FUA, offset: 0, length: 4096 });
    await client.message();
    client.request({ command: COMMAND.FLUSH });
    await client.message();
    expect(writable.log).toEqual([
      `write 4096 ${1 << 20}`,
      `write ${4096 + (1 << 20)} ${1 << 20}`,
      `write ${4096 + (2 << 20)} ${1 << 20}`,
      'flush',
      'zero 8192 100 keep',
      'trim 0 4096',
      'flush',
      'flush',
    ]);
    expect(writable.bytes.subarray(4096, 8192).equals(Buffer.alloc(4096, 9))).toBe(true);
  });
});

describe('a disk that cannot be read', () => {
  const failing = memoryDisk(SIZE);
  beforeAll(() => {
    failing.beforeRead = (offset, length) => {
      if (offset <= 2 << 20 && offset + length > 2 << 20) throw Object.assign(new Error('no such sector'), { code: 'EIO' });
    };
    server.addExport({ name: 'failing', disk: failing });
  });

  it.each([
    ['structured', 0],
    ['extended', 0],
    ['structured', COMMAND_FLAG.DF],
  ] as const)('is an error, and the connection goes on (%s, flags %i)', async (style, flags) => {
    await client.enter(style, [], 'failing');
    for (const length of [3 << 20, 4096]) {
      client.request({ flags, offset: (2 << 20) - length / 2, length }, style === 'extended');
      const reply = await client.reply();
      expect(reply.at(-1)).toMatchObject({ error: 5, done: true });
      expect(reply.filter(({ error }) => error !== 0).length).toBe(1);
    }
    client.request({ offset: 0, length: 512 }, style === 'extended');
    expect((await client.reply())[0]?.payload.subarray(8).equals(failing.bytes.subarray(0, 512))).toBe(true);
    expect(problems.length).toBeGreaterThan(0);
  });

  it('ends the connection where a simple reply has promised the data', async () => {
    await client.enter('simple', [], 'failing');
    client.request({ offset: 2 << 20, length: 4096 });
    expect((await client.message()).error).toBe(5);
    client.request({ offset: 0, length: 3 << 20 });
    const head = await client.take(16);
    expect(head.readUInt32BE(4)).toBe(0);
    await client.closed();
  });
});

it('the socket is for its owner alone', () => {
  expect(statSync(scratch('s')).mode & 0o777).toBe(0o600);
});
