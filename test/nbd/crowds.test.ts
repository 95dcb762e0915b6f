// Many clients at a time, most of them bad: the server keeps to its limits, and who reads a disk does not notice.

import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { openNbdReader } from '../../src/nbd/client/nbd-reader.ts';
import { encodeOption, OPTION } from '../../src/nbd/protocol/option.ts';
import { COMMAND, encodeRequest } from '../../src/nbd/protocol/request.ts';
import { type NbdServer, type NbdServerLimits, openNbdServer } from '../../src/nbd/server/nbd-server.ts';
import { peerFolder } from './nbd-peers.ts';
import { RawClient } from './raw-client.ts';
import { memoryDisk } from './served-disk.ts';

const SIZE = 4 << 20;
const scratch = peerFolder();
const disk = memoryDisk(SIZE);
let number = 0;
let server: NbdServer | undefined;
const sockets: Socket[] = [];

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await server?.close();
});

async function serve(limits: Partial<NbdServerLimits> = {}): Promise<string> {
  const path = scratch(`${number++}`);
  server = await openNbdServer({ listen: { kind: 'unix', path }, exports: [{ name: 'disk', disk }], limits });
  return path;
}

/** Connects, says something, and then holds the connection. */
function hold(path: string, bytes?: Uint8Array): Promise<'closed'> {
  const socket = connect({ path });
  sockets.push(socket);
  socket.on('error', () => undefined);
  socket.resume();
  if (bytes) socket.write(bytes);
  return new Promise((resolve) => socket.once('close', () => resolve('closed')));
}

async function readAll(address: string, times: number): Promise<void> {
  const reader = await openNbdReader(address, { connections: 2, reconnectWithin: 0 });
  const buffer = Buffer.alloc(SIZE);
  for (let count = 0; count < times; count++) {
    buffer.fill(0);
    await reader.read(buffer, 0);
    if (!buffer.equals(disk.bytes)) throw new Error('other bytes');
  }
  await reader.close();
}

describe('a crowd', () => {
  it('of 500 who only hold their sockets open keeps nobody out, and is sent away when its time is over', async () => {
    const path = await serve({ negotiateWithin: 1500 });
    const address = `nbd+unix:///disk?socket=${path}`;
    const reading = readAll(address, 20);
    const held = Array.from({ length: 500 }, () => hold(path));
    await reading;
    // Also who comes while all places are taken by them.
    await readAll(address, 1);
    expect(await Promise.all(held)).toHaveLength(500);
  });

  it('that floods it with rubbish is cut off', async () => {
    const path = await serve();
    const reading = readAll(`nbd+unix:///disk?socket=${path}`, 20);
    const rubbish = Buffer.alloc(1 << 20, 'IHAVEOPT');
    const held = Array.from({ length: 50 }, () => hold(path, rubbish));
    expect(await Promise.all(held)).toHaveLength(50);
    await reading;
  });

  it('of readers is limited in all and from one address', async () => {
    const path = await serve({ clients: 3 });
    const address = `nbd+unix:///disk?socket=${path}`;
    const readers = await Promise.all(Array.from({ length: 3 }, () => openNbdReader(address, { reconnectWithin: 0 })));
    await expect(openNbdReader(address, { reconnectWithin: 0 })).rejects.toMatchObject({ code: 'CONNECTION_FAILED' });
    await readers[0]?.close();
    await expect
      .poll(() =>
        openNbdReader(address, { reconnectWithin: 0 }).then(
          (reader) => reader.close(),
          () => 'no room',
        ),
      )
      .toBeUndefined();
    for (const reader of readers) await reader.close();
  });
});

describe('a client that', () => {
  it('asks and never listens is stalled, then cut off, and costs bounded memory', async () => {
    const path = await serve({ slowLimit: 700 });
    let inReads = 0;
    let most = 0;
    disk.beforeRead = (_offset, length) => {
      inReads += length;
      most = Math.max(most, inReads);
    };
    const client = await RawClient.open(server?.address ?? { kind: 'unix', path });
    await client.enter('structured');
    client.socket.pause();
    const request = encodeRequest({ command: COMMAND.READ, flags: 0, cookie: 1n, offset: 0, length: 1 << 20 }, false);
    client.send(...Array.from({ length: 500 }, () => request));
    await expect.poll(() => client.socket.destroyed || client.socket.readableEnded || inReads, { timeout: 5000 }).toBeTruthy();
    await new Promise((resolve) => setTimeout(resolve, 300));
    // 500 MiB were asked for; what was read of them waits for the client.
    expect(most).toBeLessThan(24 << 20);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    await client.closed();
    disk.beforeRead = () => undefined;
    await readAll(`nbd+unix:///disk?socket=${path}`, 1);
  });

  it('asks what there is for ever and never listens is not answered either', async () => {
    const path = scratch(`${number++}`);
    let told = 0;
    const listed = {
      name: 'disk',
      disk,
      get description() {
        told++;
        return 'x'.repeat(4000);
      },
    };
    server = await openNbdServer({ listen: { kind: 'unix', path }, exports: [listed], listing: true });
    const client = await RawClient.open({ kind: 'unix', path });
    await client.greet();
    client.socket.pause();
    client.send(...Array.from({ length: 1000 }, () => encodeOption(OPTION.LIST)));
    await new Promise((resolve) => setTimeout(resolve, 300));
    // What the system holds for it, and a little more.
    expect(told).toBeLessThan(400);
    client.socket.removeAllListeners('data').resume();
    await expect.poll(() => told, { timeout: 10_000 }).toBeGreaterThan(1000);
    client.close();
  });

  it('asks for much at a time and listens gets all of it', async () => {
    const path = await serve();
    const client = await RawClient.open({ kind: 'unix', path });
    await client.enter('structured');
    for (let cookie = 1n; cookie <= 200n; cookie++) client.request({ cookie, offset: 65_536, length: 65_536 });
    const cookies = new Set<bigint>();
    for (let count = 0; count < 200; count++) {
      const [message] = await client.reply();
      expect(message?.payload.subarray(8).equals(disk.bytes.subarray(65_536, 131_072))).toBe(true);
      cookies.add(message?.cookie ?? 0n);
    }
    expect(cookies.size).toBe(200);
  });

  it('has asked for much and ends its side gets all of it', async () => {
    const path = await serve();
    disk.beforeRead = () => new Promise((resolve) => setTimeout(resolve, 20));
    const client = await RawClient.open({ kind: 'unix', path }, true);
    await client.enter('structured');
    // The last one is not whole.
    const request = encodeRequest({ command: COMMAND.READ, flags: 0, cookie: 1n, offset: 512, length: 512 }, false);
    client.socket.end(Buffer.concat([...Array.from({ length: 40 }, () => request), request.subarray(0, 20)]));
    for (let count = 0; count < 40; count++) expect((await client.message()).payload.length).toBe(520);
    await client.closed();
    disk.beforeRead = () => undefined;
  });
});

describe('a server that closes', () => {
  it('answers what is in flight, refuses what comes later, and leaves 50 idle clients', async () => {
    const path = await serve();
    let release: () => void = () => undefined;
    const blocked = new Promise<void>((resolve) => {
      release = resolve;
    });
    disk.beforeRead = (offset) => (offset === 4096 ? blocked : undefined);
    const idle = await Promise.all(
      Array.from({ length: 25 }, () => openNbdReader(`nbd+unix:///disk?socket=${path}`, { reconnectWithin: 0 })),
    );
    const held = Array.from({ length: 25 }, () => hold(path));
    const client = await RawClient.open({ kind: 'unix', path });
    await client.enter('structured');
    client.request({ cookie: 1n, offset: 4096, length: 512 });
    client.request({ cookie: 2n, offset: 0, length: 512 });
    expect((await client.message()).cookie).toBe(2n);
    const closing = server?.close();
    client.request({ cookie: 3n, offset: 0, length: 512 });
    expect(await client.message()).toMatchObject({ cookie: 3n, error: 108 });
    release();
    expect((await client.message()).payload.subarray(8).equals(disk.bytes.subarray(4096, 4608))).toBe(true);
    await client.closed();
    await closing;
    await Promise.all(held);
    await expect(idle[0]?.read(Buffer.alloc(1), 0)).rejects.toMatchObject({ code: 'CONNECTION_FAILED' });
    await expect(openNbdReader(`nbd+unix:///disk?socket=${path}`)).rejects.toMatchObject({ code: 'CONNECTION_FAILED' });
    disk.beforeRead = () => undefined;
  });

  it.each([
    ['a write', 'is cut off', COMMAND.WRITE, 512],
    ['a write', 'has left', COMMAND.WRITE, 512],
    ['a long read', 'is cut off', COMMAND.READ, 3 << 20],
    ['a long read', 'has left', COMMAND.READ, 3 << 20],
  ])('leaves a disk when all has ended there, also %s whose client %s', async (_what, way, command, length) => {
    const path = await serve();
    const held = Promise.withResolvers<void>();
    let working = 0;
    const work = async (): Promise<void> => {
      working++;
      await held.promise;
      working--;
    };
    const slow = { ...disk, read: async (_buffer: Uint8Array, offset: number) => (offset === 0 ? undefined : work()), write: work };
    server?.addExport({ name: 'slow', disk: slow, changes: slow });
    const client = await RawClient.open({ kind: 'unix', path });
    await client.enter('structured', [], 'slow');
    client.request({ command, length }, false, Buffer.alloc(command === COMMAND.WRITE ? length : 0));
    await expect.poll(() => working).toBeGreaterThan(0);
    if (way === 'has left') client.close();
    await new Promise((resolve) => setTimeout(resolve, 50));
    const left = server?.removeExport('slow', 10).then(() => working);
    await client.closed();
    await new Promise((resolve) => setTimeout(resolve, 50));
    held.resolve();
    expect(await left).toBe(0);
  });

  it('takes one export away and keeps the others', async () => {
    const path = await serve();
    server?.addExport({ name: 'second', disk: memoryDisk(8192) });
    const first = await openNbdReader(`nbd+unix:///disk?socket=${path}`, { reconnectWithin: 0 });
    const second = await openNbdReader(`nbd+unix:///second?socket=${path}`, { reconnectWithin: 0 });
    await server?.removeExport('disk');
    await expect(first.read(Buffer.alloc(1), 0)).rejects.toMatchObject({ code: 'CONNECTION_FAILED' });
    await expect(openNbdReader(`nbd+unix:///disk?socket=${path}`)).rejects.toMatchObject({ code: 'EXPORT_NOT_FOUND' });
    await second.read(Buffer.alloc(512), 0);
    await second.close();
  });
});

describe('a place', () => {
  it('where another server answers is not taken, one that a dead server left is', async () => {
    const path = await serve();
    await expect(openNbdServer({ listen: { kind: 'unix', path } })).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    await readAll(`nbd+unix:///disk?socket=${path}`, 1);
  });

  it('of an export takes no sizes of blocks that clients would refuse', async () => {
    await serve();
    for (const preferredBlock of [0, 256, 1000, 65_537])
      expect(() => server?.addExport({ name: 'odd', disk, preferredBlock })).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
    server?.addExport({ name: 'odd', disk, preferredBlock: 512 });
  });

  it('that others can reach needs TLS', async () => {
    await expect(openNbdServer({ listen: { kind: 'tcp', host: '0.0.0.0', port: 0 } })).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    server = await openNbdServer({ listen: { kind: 'tcp', host: '127.0.0.1', port: 0 }, exports: [{ name: 'disk', disk }] });
    const { address } = server;
    await readAll(`nbd://127.0.0.1:${address.kind === 'tcp' ? address.port : 0}/disk`, 1);
  });
});
