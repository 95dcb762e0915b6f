// A client that breaks or bends the rules of transmission: what it may, it gets; what it may not, is refused; and the server goes on for the others.

import { beforeAll, describe, expect, it } from 'vitest';
import { CHUNK_TYPE } from '../../src/nbd/protocol/reply.ts';
import { COMMAND, COMMAND_FLAG, type Request } from '../../src/nbd/protocol/request.ts';
import { hostileScene, SIZE } from './hostile-scene.ts';
import type { RawClient } from './raw-client.ts';
import type { Style } from './scripted-server.ts';
import { memoryDisk } from './served-disk.ts';

const scene = hostileScene();
const { disk, writable, problems } = scene;

describe('ends the connection of a client that', () => {
  it.each<[string, (c: RawClient) => Promise<void>]>([
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
    await act(scene.client);
    await scene.client.closed();
    await scene.expectAlive();
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
    await scene.client.enter(style, [], name);
    const extended = style === 'extended';
    scene.client.request({ ...request, cookie: 0xfedc_ba98_7654_3210n }, extended, Buffer.alloc(payload));
    const reply = await scene.client.reply();
    expect(reply.map((message) => message.error)).toEqual([error]);
    expect(reply[0]?.cookie).toBe(0xfedc_ba98_7654_3210n);
    expect(reply[0]?.form).not.toBe(extended ? 'simple' : 'extended');
    if (style === 'structured' && (request.command ?? 0) === COMMAND.READ) expect(reply[0]?.form).toBe('chunk');
    // In step: the next request is understood.
    scene.client.request({ cookie: 5n, offset: 512, length: 512 }, extended);
    const next = await scene.client.reply(512);
    expect(
      next[0]?.payload.subarray(style === 'simple' ? 0 : 8).equals((name === 'disk' ? disk : writable).bytes.subarray(512, 1024)),
    ).toBe(true);
  });

  it('an uncut read with one chunk, a long one with several', async () => {
    await scene.client.enter('structured');
    scene.client.request({ flags: COMMAND_FLAG.DF, offset: 1, length: 3 << 20 });
    const uncut = await scene.client.reply();
    expect(uncut.map(({ type }) => type)).toEqual([CHUNK_TYPE.OFFSET_DATA, CHUNK_TYPE.NONE]);
    expect(uncut[0]?.payload.subarray(8).equals(disk.bytes.subarray(1, 1 + (3 << 20)))).toBe(true);
    scene.client.request({ offset: 1, length: 3 << 20 });
    const cut = await scene.client.reply();
    expect(cut.length).toBe(3);
    expect(Buffer.concat(cut.map(({ payload }) => payload.subarray(8))).equals(disk.bytes.subarray(1, 1 + (3 << 20)))).toBe(true);
  });

  it.each(['structured', 'extended'] as const)('a status with exactly what was asked for (%s)', async (style) => {
    await scene.client.enter(style, ['base:allocation']);
    const extended = style === 'extended';
    const ask = async (request: Partial<Request>): Promise<number[]> => {
      scene.client.request({ command: COMMAND.BLOCK_STATUS, ...request }, extended);
      const [message] = await scene.client.reply();
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
    await scene.client.enter('structured', [], 'rw');
    writable.log.length = 0;
    const bytes = Buffer.alloc(3 << 20, 9);
    scene.client.request({ command: COMMAND.WRITE, flags: COMMAND_FLAG.FUA, offset: 4096, length: bytes.length }, false, bytes);
    await scene.client.message();
    scene.client.request({ command: COMMAND.WRITE_ZEROES, flags: COMMAND_FLAG.NO_HOLE, offset: 8192, length: 100 });
    await scene.client.message();
    scene.client.request({ command: COMMAND.TRIM, flags: COMMAND_FLAG.FUA, offset: 0, length: 4096 });
    await scene.client.message();
    scene.client.request({ command: COMMAND.FLUSH });
    await scene.client.message();
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
    scene.server.addExport({ name: 'failing', disk: failing });
  });

  it.each([
    ['structured', 0],
    ['extended', 0],
    ['structured', COMMAND_FLAG.DF],
  ] as const)('is an error, and the connection goes on (%s, flags %i)', async (style, flags) => {
    await scene.client.enter(style, [], 'failing');
    for (const length of [3 << 20, 4096]) {
      scene.client.request({ flags, offset: (2 << 20) - length / 2, length }, style === 'extended');
      const reply = await scene.client.reply();
      expect(reply.at(-1)).toMatchObject({ error: 5, done: true });
      expect(reply.filter(({ error }) => error !== 0).length).toBe(1);
    }
    scene.client.request({ offset: 0, length: 512 }, style === 'extended');
    expect((await scene.client.reply())[0]?.payload.subarray(8).equals(failing.bytes.subarray(0, 512))).toBe(true);
    expect(problems.length).toBeGreaterThan(0);
  });

  it.each([
    ['a read', 4096, 0, COMMAND.READ],
    ['a read in parts', 2 << 20, COMMAND_FLAG.DF, COMMAND.READ],
    ['a write', 4096, 0, COMMAND.WRITE],
  ])('gives up the buffer of %s that failed: something may still use it', async (_what, length, flags, command) => {
    const used: Uint8Array[] = [];
    const fail = async (bytes: Uint8Array): Promise<void> => {
      used.push(bytes);
      throw new Error('one half of it failed, and the other is not over yet');
    };
    scene.server.addExport({ name: 'half', disk: { ...failing, read: fail }, changes: { ...failing, write: fail } });
    await scene.client.enter('structured', [], 'half');
    for (let count = 0; count < 2; count++) {
      scene.client.request({ command, flags, length }, false, Buffer.alloc(command === COMMAND.WRITE ? length : 0));
      expect((await scene.client.reply()).at(-1)?.error).toBe(5);
    }
    await scene.server.removeExport('half');
    expect(new Set(used.map(({ buffer }) => buffer)).size).toBe(2);
  });

  it('ends the connection where a simple reply has promised the data', async () => {
    await scene.client.enter('simple', [], 'failing');
    scene.client.request({ offset: 2 << 20, length: 4096 });
    expect((await scene.client.message()).error).toBe(5);
    scene.client.request({ offset: 0, length: 3 << 20 });
    const head = await scene.client.take(16);
    expect(head.readUInt32BE(4)).toBe(0);
    await scene.client.closed();
  });
});
