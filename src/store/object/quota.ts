// The room of an object store, which has no size of its own: a quota of the settings, and what a listing has found to be used.
// It must not hold up what is small: the files that end a backup, free room or lift a hold are written also where the quota is used up.

import { ChainkeepError } from '../../plumbing/errors.ts';
import type { BlobStore, StoreCapacity } from '../blob-store.ts';

export function roomOf(totalBytes: number, usedBytes: number): StoreCapacity {
  return { totalBytes, usedBytes, availableBytes: Math.max(0, totalBytes - usedBytes) };
}

/** INSUFFICIENT_STORAGE where `bytes`, more than one part, do not fit. */
export async function refuseFull(store: BlobStore, name: string, bytes: number, partSize: number): Promise<void> {
  if (bytes <= partSize) return;
  const room = await store.capacity();
  if (!room || room.availableBytes >= bytes) return;
  const message = `no room for ${name} in ${store.place}: ${bytes} bytes are needed, ${room.availableBytes} of the quota are left`;
  throw new ChainkeepError('INSUFFICIENT_STORAGE', message, {
    advice: 'delete backups, raise quota_bytes, or use another repository',
    context: { place: store.place, name, required_bytes: bytes, available_bytes: room.availableBytes },
  });
}
