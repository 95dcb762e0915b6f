// In which parts a blob goes to an object store: planned from the bytes it can become at most and from the store's limits, before anything is read.
// It must not send anything.

import { ChainkeepError } from '../plumbing/errors.ts';
import type { PutOptions, StoreCapabilities, UploadSettings } from './blob-store.ts';

const MIB = 2 ** 20;

/** What a server demands of parts; bytes. */
export interface PartLimits {
  readonly minPartSize: number;
  readonly maxPartSize: number;
  readonly maxParts: number;
  readonly maxBlobSize: number;
  /** Every part but the last must have the same size. */
  readonly equalParts: boolean;
}

export interface PartPlan {
  /** The first part with a head waits for it in memory until the end, so it is as small as the server allows. */
  readonly firstPartSize: number;
  readonly partSize: number;
  readonly concurrency: number;
  readonly maxBytes: number;
  /** Bytes that the parts take in memory at most. */
  readonly memory: number;
}

/**
 * Throws BLOB_TOO_LARGE when `mostBytes` (or `expectedSize`) cannot be held. Without `mostBytes` the parts have the size of the settings, and a blob that
 * outgrows what the number of parts allows fails while it is written.
 */
export function planParts(limits: PartLimits, settings: UploadSettings, options: PutOptions, name: string): PartPlan {
  const largest = Math.min(limits.maxBlobSize, limits.maxPartSize * limits.maxParts);
  const most = Math.max(options.mostBytes ?? 0, options.expectedSize ?? 0);
  if (most > largest) throw tooLarge(name, most, largest);
  // One part less than there may be: the first is smaller than the others.
  const needed = roundUp(Math.ceil(most / Math.max(1, limits.maxParts - 1)), MIB);
  const wanted = Math.max(settings.partSize, needed, limits.minPartSize);
  const partSize = Math.min(limits.maxPartSize, wanted);
  const headLength = options.headLength ?? 0;
  const held = Math.min(partSize, Math.max(limits.minPartSize, roundUp(headLength, MIB)));
  const firstPartSize = limits.equalParts || headLength === 0 ? partSize : held;
  const concurrency = Math.max(1, Math.min(settings.concurrency, Math.floor((settings.memory - firstPartSize) / partSize) - 1));
  const maxBytes = Math.min(largest, firstPartSize + partSize * (limits.maxParts - 1));
  return { firstPartSize, partSize, concurrency, maxBytes, memory: firstPartSize + partSize * (concurrency + 1) };
}

/** The same plan from what a store says of itself; undefined for one that sends no parts. Throws BLOB_TOO_LARGE for every store. */
export function planUpload(capabilities: StoreCapabilities, options: PutOptions, name: string): PartPlan | undefined {
  const { upload, maxBlobSize, maxParts, equalParts } = capabilities;
  const most = options.mostBytes ?? 0;
  if (most > maxBlobSize) throw tooLarge(name, most, maxBlobSize);
  if (!upload) return undefined;
  const { minPartSize, maxPartSize, ...settings } = upload;
  const limits = { minPartSize, maxPartSize, maxBlobSize, maxParts: maxParts ?? Number.MAX_SAFE_INTEGER, equalParts: equalParts ?? false };
  return planParts(limits, settings, options, name);
}

export function tooLarge(name: string, bytes: number, largest: number): ChainkeepError {
  return new ChainkeepError('BLOB_TOO_LARGE', `${name} may become ${bytes} bytes long, the store holds at most ${largest} in one object`, {
    advice: 'larger parts (upload_part_size_mib), compression, or a store with larger objects; nothing was committed',
    context: { name, required_bytes: bytes, limit_bytes: largest },
  });
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
