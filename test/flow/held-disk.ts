// Disks over NBD whose reads or writes wait until they are let go: a backup from one, or a restore to one, lasts for as long as a test needs it to,
// on any machine.

import { onTestFinished } from 'vitest';
import { openNbdServer } from '../../src/nbd/server/nbd-server.ts';
import type { ScratchHome } from './scratch-home.ts';

export interface HeldDisk {
  /** The source of a backup, or the target of a restore. */
  readonly address: string;
  /** The first read or write has come, and waits. */
  readonly begun: Promise<void>;
  letGo(): void;
}

/** `bytes`: what is in it; a restore changes them. */
export async function heldDisk(user: ScratchHome, bytes: Buffer): Promise<HeldDisk> {
  const begun = Promise.withResolvers<void>();
  const held = Promise.withResolvers<void>();
  const wait = (): Promise<void> => {
    begun.resolve();
    return held.promise;
  };
  const path = user.path('held.sock');
  const disk = {
    size: bytes.length,
    name: 'held',
    async *extents(range: { readonly offset: number; readonly length: number }) {
      yield { ...range, kind: 'data' as const };
    },
    read: async (buffer: Uint8Array, offset: number) => {
      await wait();
      bytes.copy(buffer, 0, offset, offset + buffer.length);
    },
    close: async () => undefined,
  };
  const changes = {
    write: async (buffer: Uint8Array, offset: number) => {
      await wait();
      bytes.set(buffer, offset);
    },
    zero: async (offset: number, length: number) => {
      await wait();
      bytes.fill(0, offset, offset + length);
    },
    trim: wait,
    flush: async () => undefined,
  };
  const server = await openNbdServer({ listen: { kind: 'unix', path }, exports: [{ name: 'held', disk, changes }] });
  onTestFinished(async () => {
    held.resolve();
    await server.close();
  });
  return { address: `nbd+unix:///held?socket=${path}`, begun: begun.promise, letGo: held.resolve };
}
