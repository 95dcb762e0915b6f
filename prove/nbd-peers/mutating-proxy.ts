// Passes bytes between a client and a server, and does one wrong thing on the way: changes bits, ends, or says something twice.

import { connect, createServer, type Server, type Socket } from 'node:net';
import type { Random } from '../random.ts';

export type Direction = 'to client' | 'to server';

export interface Mutation {
  readonly direction: Direction;
  readonly kind: 'flip' | 'cut' | 'twice' | 'rubbish';
  /** Bytes in this direction that pass untouched in front of it. */
  readonly after: number;
}

/** Places in the negotiation and in the first requests are hit most: later on there are only more of the same. */
export function planMutation(random: Random): Mutation {
  const direction: Direction = random.chance(0.6) ? 'to client' : 'to server';
  // What is inserted into data that a server sends cannot be told from data: only a server must stand that.
  const kind =
    direction === 'to client' ? random.pick(['flip', 'flip', 'cut'] as const) : random.pick(['flip', 'cut', 'twice', 'rubbish'] as const);
  return { direction, kind, after: random.chance(0.7) ? random.below(600) : random.below(200_000) };
}

export interface MutatingProxy {
  readonly path: string;
  readonly mutation: Mutation;
  /** Values of the bytes that were put in the place of others. */
  readonly flipped: number[];
  close(): Promise<void>;
}

export async function openMutatingProxy(path: string, server: string, mutation: Mutation, random: Random): Promise<MutatingProxy> {
  const flipped: number[] = [];
  const sockets = new Set<Socket>();
  let done = false;
  const proxy: Server = createServer((near) => {
    const far = connect({ path: server });
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
    }
    const pass = (from: Socket, to: Socket, direction: Direction): void => {
      let left = mutation.after;
      from.on('data', (bytes: Buffer) => {
        if (direction !== mutation.direction || done || left >= bytes.length) {
          left -= bytes.length;
          to.write(bytes);
          return;
        }
        done = true;
        const result = mutate(bytes, Math.max(0, left), mutation, random, flipped);
        to.write(result);
        if (mutation.kind === 'cut') to.destroySoon();
      });
      from.on('close', () => to.destroySoon());
    };
    pass(near, far, 'to server');
    pass(far, near, 'to client');
  });
  await new Promise<void>((resolve) => proxy.listen({ path }, resolve));
  return {
    path,
    mutation,
    flipped,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => proxy.close(() => resolve()));
    },
  };
}

function mutate(bytes: Buffer, at: number, { kind }: Mutation, random: Random, flipped: number[]): Buffer {
  if (kind === 'cut') return bytes.subarray(0, at);
  if (kind === 'twice') return Buffer.concat([bytes.subarray(0, at), bytes.subarray(0, at), bytes.subarray(at)]);
  if (kind === 'rubbish') return Buffer.concat([bytes.subarray(0, at), random.bytes(random.between(1, 5000)), bytes.subarray(at)]);
  const changed = Buffer.from(bytes);
  changed[at] = (changed[at] ?? 0) ^ (1 << random.below(8));
  flipped.push(changed[at] ?? 0);
  return changed;
}
