// What an export is told of its clients: who said goodbye, who vanished, and not before nothing of them is at work on the disk.

import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { openNbdReader } from '../../src/nbd/client/nbd-reader.ts';
import { COMMAND } from '../../src/nbd/protocol/request.ts';
import type { RefusedChange } from '../../src/nbd/server/nbd-export.ts';
import { type NbdServer, openNbdServer } from '../../src/nbd/server/nbd-server.ts';
import { peerFolder } from './nbd-peers.ts';
import { RawClient } from './raw-client.ts';
import { memoryDisk } from './served-disk.ts';

const scratch = peerFolder();
const disk = memoryDisk(64 * 1024);
let heard: string[] = [];
let release: () => void = () => undefined;
let server: NbdServer;

beforeAll(async () => {
  const onClient = (): ((saidGoodbye: boolean) => void) => {
    heard.push('came');
    return (saidGoodbye) => heard.push(saidGoodbye ? 'goodbye' : 'vanished');
  };
  const slow = async (): Promise<void> => {
    heard.push('write begins');
    await new Promise<void>((resolve) => {
      release = resolve;
    });
    heard.push('write ends');
  };
  const exports = [
    {
      ...{ name: 'disk', disk, changes: disk, onClient },
      onRefused: ({ command, offset, length }: RefusedChange) => heard.push(`${command} ${offset} ${length}`),
    },
    { name: 'slow', disk, changes: { ...disk, write: slow }, onClient },
  ];
  server = await openNbdServer({ listen: { kind: 'unix', path: scratch('s') }, exports });
});
afterAll(() => server.close());
beforeEach(() => {
  heard = [];
});

async function hears(...words: readonly string[]): Promise<void> {
  await expect.poll(() => heard, { timeout: 20_000 }).toEqual(words);
}

async function enter(name = 'disk'): Promise<RawClient> {
  const client = await RawClient.open({ kind: 'unix', path: scratch('s') });
  await client.enter('simple', [], name);
  await hears('came');
  return client;
}

it('hears of a goodbye', async () => {
  const reader = await openNbdReader(`nbd+unix:///disk?socket=${scratch('s')}`, { connections: 1 });
  await hears('came');
  await reader.close();
  await hears('came', 'goodbye');
});

it.each([
  ['closes its socket', (client: RawClient) => client.socket.end()],
  ['is cut off', (client: RawClient) => client.socket.destroy()],
  ['ends within a request', (client: RawClient) => client.socket.end(Buffer.alloc(5))],
])('hears of a client that %s', async (_what, vanish) => {
  vanish(await enter());
  await hears('came', 'vanished');
});

it.each(['goodbye', 'vanished'])('hears it when the last write of the client has ended: %s', async (how) => {
  const client = await enter('slow');
  client.request({ command: COMMAND.WRITE, length: 512 }, false, Buffer.alloc(512));
  await hears('came', 'write begins');
  if (how === 'goodbye') client.request({ command: COMMAND.DISC });
  else client.socket.destroy();
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(heard).toEqual(['came', 'write begins']);
  release();
  await hears('came', 'write begins', 'write ends', how);
});

it('hears of changes that do not fit the disk, and of no other request', async () => {
  const client = await enter();
  client.request({ command: COMMAND.READ, offset: 1 << 20, length: 512 });
  client.request({ command: COMMAND.WRITE, offset: 65_024, length: 1024 }, false, Buffer.alloc(1024));
  client.request({ command: COMMAND.TRIM, offset: 1 << 20, length: 512 });
  client.request({ command: COMMAND.WRITE, length: 512 }, false, Buffer.alloc(512));
  client.request({ command: COMMAND.DISC });
  await hears('came', 'WRITE 65024 1024', 'TRIM 1048576 512', 'goodbye');
});

it('hears nothing of those who only look around', async () => {
  const client = await RawClient.open({ kind: 'unix', path: scratch('s') });
  await client.greet();
  client.socket.destroy();
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(heard).toEqual([]);
});
