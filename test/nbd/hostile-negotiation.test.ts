// A client that breaks or bends the rules while it negotiates: what it may, it gets; what it may not, is refused; and the server goes on for the others.

import { statSync } from 'node:fs';
import { beforeEach, describe, expect, it } from 'vitest';
import { encodeInfoRequest, INFO } from '../../src/nbd/protocol/export-info.ts';
import { encodeContextQuery } from '../../src/nbd/protocol/meta-context.ts';
import { encodeOption, OPTION } from '../../src/nbd/protocol/option.ts';
import { REPLY } from '../../src/nbd/protocol/option-reply.ts';
import { COMMAND } from '../../src/nbd/protocol/request.ts';
import { hostileScene, SIZE } from './hostile-scene.ts';
import { RawClient } from './raw-client.ts';
import { memoryDisk } from './served-disk.ts';

const scene = hostileScene();
const { disk } = scene;

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
  ])('%s', async (_name, act) => {
    await act(scene.client);
    await scene.client.closed();
    await scene.expectAlive();
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
    await scene.client.greet();
    expect((await scene.client.ask(option, data)).kind).toBe(kind);
    expect((await scene.client.ask(OPTION.INFO, goFor('disk'))).kind).toBe(REPLY.ACK);
  });

  it('wants structured replies after extended headers', async () => {
    await scene.client.greet();
    expect((await scene.client.ask(OPTION.EXTENDED_HEADERS)).kind).toBe(REPLY.ACK);
    expect((await scene.client.ask(OPTION.STRUCTURED_REPLY)).kind).toBe(REPLY.ERR_EXT_HEADER_REQD);
  });

  it('asks for contexts in data that do not add up', async () => {
    await scene.client.greet();
    await scene.client.ask(OPTION.STRUCTURED_REPLY);
    const query = encodeContextQuery({ exportName: 'disk', queries: ['base:allocation'] });
    for (const data of [
      query.subarray(0, -1),
      Buffer.concat([query, Buffer.alloc(1)]),
      bent(Buffer.from(query), 8, 0xffff_ffff),
      Buffer.alloc(0),
    ])
      expect((await scene.client.ask(OPTION.SET_META_CONTEXT, data)).kind).toBe(REPLY.ERR_INVALID);
    expect((await scene.client.ask(OPTION.SET_META_CONTEXT, encodeContextQuery({ exportName: 'nope', queries: [] }))).kind).toBe(
      REPLY.ERR_UNKNOWN,
    );
  });
});

describe('lets a client', () => {
  it('leave politely', async () => {
    await scene.client.greet();
    expect((await scene.client.ask(OPTION.ABORT)).kind).toBe(REPLY.ACK);
    await scene.client.closed();
  });

  it('leave politely and stay: it is sent away', async () => {
    const client = await RawClient.open(scene.server.address, true);
    await client.greet();
    expect((await client.ask(OPTION.ABORT)).kind).toBe(REPLY.ACK);
    await client.deaf();
  });

  it.each([
    [3, 10],
    [1, 134],
    [0, 134],
  ])('choose an export by name, with flags %i', async (flags, length) => {
    await scene.client.greet(flags);
    scene.client.send(encodeOption(OPTION.EXPORT_NAME, Buffer.from('disk')));
    const answer = await scene.client.take(length);
    expect(Number(answer.readBigUInt64BE(0))).toBe(SIZE);
    expect(answer.subarray(10).equals(Buffer.alloc(length - 10))).toBe(true);
    scene.client.request({ offset: 100, length: 200 });
    expect((await scene.client.message(200)).payload.equals(disk.bytes.subarray(100, 300))).toBe(true);
  });

  it('send its first request right behind its choice', async () => {
    await scene.client.greet();
    scene.client.send(
      Buffer.concat([
        encodeOption(OPTION.GO, goFor('disk')),
        Buffer.from('25609513000000000000000000000009000000000000000000000010', 'hex'),
      ]),
    );
    await scene.client.take(20 + 12 + 20);
    expect((await scene.client.message(16)).payload.equals(disk.bytes.subarray(0, 16))).toBe(true);
  });

  it('ask what sizes to keep to', async () => {
    await scene.client.greet();
    const { data } = await scene.client.ask(OPTION.INFO, encodeInfoRequest({ name: 'disk', wanted: [INFO.BLOCK_SIZE, INFO.NAME, 99] }));
    expect(data.map((reply) => reply.readUInt16BE(0))).toEqual([INFO.EXPORT, INFO.NAME, INFO.BLOCK_SIZE]);
  });

  it('choose and list contexts by the rules of each', async () => {
    await scene.client.greet();
    await scene.client.ask(OPTION.STRUCTURED_REPLY);
    const count = async (option: number, ...queries: string[]): Promise<number> =>
      (await scene.client.ask(option, encodeContextQuery({ exportName: 'disk', queries }))).data.length;
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
    scene.client.ask(OPTION.SET_META_CONTEXT, encodeContextQuery({ exportName, queries }));
  async function statusError(exportName = 'disk'): Promise<number> {
    await scene.client.ask(OPTION.GO, goFor(exportName));
    scene.client.request({ command: COMMAND.BLOCK_STATUS, length: 4096 });
    return (await scene.client.message()).error;
  }
  beforeEach(async () => {
    await scene.client.greet();
    await scene.client.ask(OPTION.STRUCTURED_REPLY);
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
  it('for the export that had the name then, not for another that has it now', async () => {
    scene.server.addExport({ name: 'day', disk });
    await set('day', 'base:allocation');
    await scene.server.removeExport('day');
    scene.server.addExport({ name: 'day', disk: memoryDisk(SIZE) });
    expect(await statusError('day')).toBe(22);
  });
  it('and then they do', async () => {
    await set('disk', 'base:allocation');
    expect(await statusError()).toBe(0);
  });
});

it('the socket is for its owner alone', () => {
  expect(statSync(scene.socket).mode & 0o777).toBe(0o600);
});
