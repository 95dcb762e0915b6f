// A disk over NBD whose reads wait until they are let go: a backup of it lasts for as long as a test needs it to, on any machine.

import { onTestFinished } from 'vitest';
import { openNbdServer } from '../../src/nbd/server/nbd-server.ts';
import type { ScratchHome } from './scratch-home.ts';

export interface HeldDisk {
  /** The source of a backup. */
  readonly address: string;
  letGo(): void;
}

export async function heldDisk(user: ScratchHome, bytes: Buffer): Promise<HeldDisk> {
  const held = Promise.withResolvers<void>();
  const path = user.path('held.sock');
  const server = await openNbdServer({
    listen: { kind: 'unix', path },
    exports: [
      {
        name: 'held',
        disk: {
          size: bytes.length,
          name: 'held',
          async *extents(range) {
            yield { ...range, kind: 'data' };
          },
          read: async (buffer, offset) => {
            await held.promise;
            bytes.copy(buffer, 0, offset, offset + buffer.length);
          },
          close: async () => undefined,
        },
      },
    ],
  });
  onTestFinished(async () => {
    held.resolve();
    await server.close();
  });
  return { address: `nbd+unix:///held?socket=${path}`, letGo: held.resolve };
}
