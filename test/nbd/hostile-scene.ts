// A server with two disks, and for each test a new client that may say what it likes.

import { afterAll, beforeAll, beforeEach, expect } from 'vitest';
import { type NbdServer, openNbdServer } from '../../src/nbd/server/nbd-server.ts';
import { peerFolder } from './nbd-peers.ts';
import { RawClient } from './raw-client.ts';
import { type MemoryDisk, memoryDisk } from './served-disk.ts';

export const SIZE = 4 << 20;

interface HostileScene {
  readonly socket: string;
  /** Read-only, as `disk`. */
  readonly disk: MemoryDisk;
  /** As `rw`. */
  readonly writable: MemoryDisk;
  /** What the server told of. */
  readonly problems: readonly unknown[];
  readonly server: NbdServer;
  readonly client: RawClient;
  /** Another client is served as ever. */
  expectAlive(): Promise<void>;
}

export function hostileScene(): HostileScene {
  const socket = peerFolder()('s');
  const disk = memoryDisk(SIZE, 0);
  const writable = memoryDisk(SIZE);
  const problems: unknown[] = [];
  let server: NbdServer;
  let client: RawClient | undefined;

  beforeAll(async () => {
    const exports = [
      { name: 'disk', disk },
      { name: 'rw', disk: writable, changes: writable },
    ];
    server = await openNbdServer({ listen: { kind: 'unix', path: socket }, exports, onProblem: (error) => problems.push(error) });
  });
  afterAll(() => server.close());
  beforeEach(async () => {
    client?.close();
    client = await RawClient.open(server.address);
  });

  return {
    socket,
    disk,
    writable,
    problems,
    get server() {
      return server;
    },
    get client() {
      if (!client) throw new Error('no test has begun');
      return client;
    },
    async expectAlive() {
      const other = await RawClient.open(server.address);
      await other.enter('structured');
      other.request({ offset: 0, length: 4096 });
      const [message] = await other.reply();
      expect(message?.payload.subarray(8).equals(disk.bytes.subarray(0, 4096))).toBe(true);
      other.close();
    },
  };
}
