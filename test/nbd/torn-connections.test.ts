// Connections that end after every number of bytes, in both directions: no half answer is taken for a whole one, nothing hangs, nothing is leaked.

import { connect, createServer, type Server, type Socket } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Extent } from '../../src/disk/extent.ts';
import { type NbdReader, openNbdReader } from '../../src/nbd/client/nbd-reader.ts';
import { openNbdWriter } from '../../src/nbd/client/nbd-writer.ts';
import { encodeInfoRequest } from '../../src/nbd/protocol/export-info.ts';
import { encodeContextQuery } from '../../src/nbd/protocol/meta-context.ts';
import { encodeOption, OPTION } from '../../src/nbd/protocol/option.ts';
import { COMMAND, COMMAND_FLAG, encodeRequest } from '../../src/nbd/protocol/request.ts';
import { type NbdServer, openNbdServer } from '../../src/nbd/server/nbd-server.ts';
import { encodeStatus } from '../../src/nbd/server/reply-writer.ts';
import { ChainkeepError, isChainkeepError } from '../../src/plumbing/errors.ts';
import { peerFolder } from './nbd-peers.ts';
import { openScriptedServer } from './scripted-server.ts';
import { memoryDisk } from './served-disk.ts';

const SIZE = 64 * 1024;
const scratch = peerFolder();
const disk = memoryDisk(SIZE, 0);
const writable = memoryDisk(SIZE);
let server: NbdServer;

beforeAll(async () => {
  const exports = [
    { name: 'disk', disk },
    { name: 'rw', disk: writable, changes: writable },
  ];
  server = await openNbdServer({ listen: { kind: 'unix', path: scratch('s') }, exports, limits: { clients: 20, perAddress: 20 } });
});
afterAll(() => server.close());

interface Tearing {
  readonly open: Set<Socket>;
  /** Bytes of the server that are let through on each connection in turn; all where the list has ended. */
  limits: number[];
  passed: number;
}

/** Passes bytes on to the server; on the way back only so many, then both ends are cut. */
function openTearingProxy(path: string, tearing: Tearing): Promise<Server> {
  const proxy = createServer((near: Socket) => {
    const far = connect({ path: scratch('s') });
    let left = tearing.limits.shift() ?? Number.POSITIVE_INFINITY;
    for (const socket of [near, far]) socket.on('error', () => undefined);
    tearing.open.add(near);
    near.once('close', () => tearing.open.delete(near));
    near.pipe(far);
    const cut = (): void => {
      near.destroySoon();
      far.destroy();
    };
    far.on('data', (bytes: Buffer) => {
      const part = bytes.subarray(0, left);
      tearing.passed += part.length;
      left -= part.length;
      near.write(part);
      if (left <= 0) cut();
    });
    far.on('close', () => near.destroySoon());
    near.on('close', () => far.destroy());
    if (left === 0) cut();
  });
  return new Promise((resolve) => proxy.listen({ path }, () => resolve(proxy)));
}

describe('a client whose server ends after each byte', () => {
  const tearing: Tearing = { limits: [], passed: 0, open: new Set() };
  const address = (name = 'disk'): string => `nbd+unix:///${name}?socket=${scratch('p')}`;
  let proxy: Server;
  beforeEach(() => {
    tearing.limits = [];
  });
  beforeAll(async () => {
    proxy = await openTearingProxy(scratch('p'), tearing);
  });
  afterAll(() => proxy.close());

  async function session(headers: 'simple' | 'structured' | 'extended', reconnectWithin: number): Promise<void> {
    const reader = await openNbdReader(address(), { headers, connections: 1, reconnectWithin, connectWithin: 5000 });
    try {
      const kinds: string[] = [];
      for await (const extent of reader.extents({ offset: 0, length: 16_384 })) kinds.push(`${extent.kind} ${extent.length}`);
      expect(kinds).toEqual(headers === 'simple' ? ['data 16384'] : ['data 12288', 'zero 4096']);
      const buffer = Buffer.alloc(600, 0xee);
      await reader.read(buffer, 1000);
      expect(buffer.equals(disk.bytes.subarray(1000, 1600))).toBe(true);
    } finally {
      await reader.close();
    }
  }

  it.each(['simple', 'structured', 'extended'] as const)('fails, and never takes a part for the whole (%s)', async (headers) => {
    tearing.passed = 0;
    await session(headers, 0);
    const total = tearing.passed;
    expect(total).toBeGreaterThan(700);
    for (let limit = 0; limit < total; limit++) {
      tearing.limits = [limit];
      const error: unknown = await session(headers, 0).catch((reason: unknown) => reason);
      expect(isChainkeepError(error, 'CONNECTION_FAILED'), `${limit} of ${total}: ${error}`).toBe(true);
    }
  });

  it('reads on over a new connection, wherever it ends', async () => {
    tearing.passed = 0;
    await session('structured', 0);
    const total = tearing.passed;
    // The first connection must be there: who cannot connect at all is told so at once.
    for (let limit = total - 660; limit < total; limit += 31) {
      tearing.limits = [limit, limit + 1, limit];
      await session('structured', 10_000);
      // It did need another connection.
      expect(tearing.limits.length).toBeLessThan(2);
    }
  });

  it.each([0, 1, 500])('does not wait for ever when it is gone for good and nothing was in flight (%i ms)', async (reconnectWithin) => {
    const path = scratch(`gone-${reconnectWithin}`);
    const gone = await openNbdServer({ listen: { kind: 'unix', path }, exports: [{ name: 'disk', disk }] });
    const reader = await openNbdReader(`nbd+unix:///disk?socket=${path}`, { reconnectWithin });
    await reader.read(Buffer.alloc(512), 0);
    await gone.close();
    await new Promise((resolve) => setTimeout(resolve, 50));
    const begun = performance.now();
    const reads = [reader.read(Buffer.alloc(512), 0), reader.read(Buffer.alloc(512), 512)];
    for (const read of reads) await expect(read).rejects.toMatchObject({ code: 'CONNECTION_FAILED' });
    expect(performance.now() - begun).toBeLessThan(reconnectWithin + 5000);
    await reader.close();
  });

  it('that lets it in and breaks off at each request is asked again and again, but not in a rush', async () => {
    let connections = 0;
    const breaking = await openScriptedServer(scratch('breaks'), async (peer) => {
      connections++;
      await peer.enter({ style: 'structured' });
      await peer.request();
      peer.socket.destroy();
    });
    const reader = await openNbdReader(breaking.address, { reconnectWithin: 1000 });
    await expect(reader.read(Buffer.alloc(512), 0)).rejects.toMatchObject({ code: 'CONNECTION_FAILED' });
    expect(connections).toBeGreaterThan(3);
    expect(connections).toBeLessThan(10);
    await reader.close();
    await breaking.close();
  });

  it('may come back without extended headers: what is asked then fits the short ones', async () => {
    const size = 8 * 2 ** 30;
    const contexts = [{ id: 1, name: 'base:allocation' }];
    const changing = await openScriptedServer(scratch('changing'), async (peer, number) => {
      const style = number === 1 ? 'extended' : 'structured';
      await peer.enter({ style, contexts, size });
      if (number === 1) await peer.request().then(() => peer.socket.destroy());
      for (;;) {
        const request = await peer.request();
        peer.send(encodeStatus(request, style, { context: 1, descriptors: [{ length: request.length, flags: 3 }] }, true));
      }
    });
    const reader = await openNbdReader(changing.address, { reconnectWithin: 10_000 });
    const extents: Extent[] = [];
    for await (const extent of reader.extents({ offset: 0, length: size })) extents.push(extent);
    expect(extents).toEqual([{ offset: 0, length: size, kind: 'zero' }]);
    await reader.close();
    await changing.close();
  });

  it('gives a writer no second chance', async () => {
    const write = async (): Promise<void> => {
      const writer = await openNbdWriter(address('rw'), { size: SIZE, connections: 1 });
      try {
        await writer.write(Buffer.alloc(512, 3), 1024);
        await writer.zero(4096, 512);
        await writer.finish();
      } catch (error) {
        await writer.abort();
        throw error;
      }
    };
    tearing.passed = 0;
    await write();
    const total = tearing.passed;
    for (let limit = total - 48; limit < total; limit++) {
      tearing.limits = [limit];
      await expect(write()).rejects.toMatchObject({ code: 'CONNECTION_FAILED' });
    }
  });

  it('ends a writer also when the connection is lost while nothing is asked for', async () => {
    for (const act of ['write', 'finish'] as const) {
      const writer = await openNbdWriter(address('rw'), { size: SIZE, connections: 2 });
      await Promise.all(Array.from({ length: 8 }, (_, at) => writer.write(Buffer.alloc(512, 3), at * 512)));
      const [one] = tearing.open;
      one?.destroy();
      await new Promise((resolve) => setTimeout(resolve, 50));
      await expect(act === 'write' ? writer.write(Buffer.alloc(512), 0) : writer.finish()).rejects.toMatchObject({
        code: 'CONNECTION_FAILED',
      });
      await writer.abort();
    }
  });
});

describe('a server that is slow', () => {
  const slow = async (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 600));
  const options = { size: SIZE, answerWithin: 200 };
  let address: string;
  beforeAll(() => {
    address = `nbd+unix:///slow?socket=${scratch('s')}`;
    const changes = { ...writable, write: slow, zero: slow, trim: slow, flush: slow };
    server.addExport({ name: 'slow', disk: { ...disk, read: slow }, changes });
  });

  it('may take its time for what has no bytes with it: much may have to be done over there', async () => {
    const writer = await openNbdWriter(address, options);
    await Promise.all([writer.zero(0, 4096), writer.trim(8192, 4096)]);
    await writer.finish();
  });

  it('may not for bytes, also not while it takes its time for something else', async () => {
    const writer = await openNbdWriter(address, options);
    const flushed = expect(writer.flush()).rejects.toMatchObject({ code: 'CONNECTION_FAILED' });
    await new Promise((resolve) => setTimeout(resolve, 50));
    await expect(writer.write(Buffer.alloc(512), 0)).rejects.toMatchObject({ code: 'CONNECTION_FAILED', context: { waited_ms: 200 } });
    await flushed;
    await writer.abort();
  });

  it.each([
    ['by a reader', async (signal: AbortSignal) => (await openNbdReader(address, { signal })).read(Buffer.alloc(512), 0)],
    ['by a writer', async (signal: AbortSignal) => (await openNbdWriter(address, { ...options, signal })).flush()],
  ])('is not waited for by who is cancelled (%s)', async (_name, ask) => {
    const cancel = new AbortController();
    const reason = new ChainkeepError('LEASE_LOST', 'somebody else has it');
    setTimeout(() => cancel.abort(reason), 100);
    await expect(ask(cancel.signal)).rejects.toBe(reason);
  });
});

describe('a server whose client ends after each byte', () => {
  const query = encodeContextQuery({ exportName: 'rw', queries: ['base:allocation'] });
  const request = (command: number, more: { flags?: number; offset?: number; length?: number }, extended: boolean): Buffer =>
    encodeRequest({ command, flags: 0, cookie: 1n, offset: 0, length: 0, ...more }, extended);

  function talk(extended: boolean): Buffer {
    const payload = extended ? COMMAND_FLAG.PAYLOAD_LEN : 0;
    return Buffer.concat([
      Buffer.from([0, 0, 0, 3]),
      encodeOption(OPTION.LIST),
      encodeOption(extended ? OPTION.EXTENDED_HEADERS : OPTION.STRUCTURED_REPLY),
      encodeOption(OPTION.SET_META_CONTEXT, query),
      encodeOption(OPTION.GO, encodeInfoRequest({ name: 'rw', wanted: [3] })),
      request(COMMAND.READ, { offset: 512, length: 8192 }, extended),
      request(COMMAND.BLOCK_STATUS, { length: SIZE }, extended),
      request(COMMAND.WRITE, { flags: payload, offset: 100, length: 300 }, extended),
      Buffer.alloc(300, 1),
      request(COMMAND.TRIM, { length: 512 }, extended),
      request(COMMAND.FLUSH, {}, extended),
      request(COMMAND.DISC, {}, extended),
    ]);
  }

  /** Clients that went away a moment ago may still be counted. */
  async function whenThereIsRoom(): Promise<NbdReader> {
    for (let tries = 0; ; tries++) {
      try {
        return await openNbdReader(`nbd+unix:///disk?socket=${scratch('s')}`, { connections: 1, reconnectWithin: 0 });
      } catch (error) {
        if (tries > 200 || !isChainkeepError(error, 'CONNECTION_FAILED')) throw error;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  }

  it.each([false, true])('goes on with the others (extended headers: %s)', async (extended) => {
    const bytes = talk(extended);
    // The clients of the test before may still be leaving.
    const reader = await whenThereIsRoom();
    const buffer = Buffer.alloc(4096);
    for (let length = 0; length <= bytes.length; length++) {
      const socket = connect({ path: scratch('s') });
      socket.on('error', () => undefined);
      socket.resume();
      // Half of them politely, half with a reset in the middle of what the server says.
      if (length % 2 === 0) socket.end(bytes.subarray(0, length));
      else socket.write(bytes.subarray(0, length), () => socket.destroy());
      await new Promise((resolve) => socket.once('close', resolve));
      if (length % 20 === 0) {
        await reader.read(buffer, 8192);
        expect(buffer.equals(disk.bytes.subarray(8192, 12_288))).toBe(true);
      }
    }
    // More than 20 came and went: were one of them still counted, there would be no room by now.
    const others = await Promise.all(Array.from({ length: 19 }, whenThereIsRoom));
    await Promise.all(others.map((other) => other.close()));
    await reader.close();
  });
});
