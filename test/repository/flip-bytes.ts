// Flips bytes of a small repository, one after the other, and asks verify: does it find each, and does it name whom it hits?

import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { isChainkeepError } from '../../src/plumbing/errors.ts';
import { parseFileName } from '../../src/repository/layout.ts';
import type { NamedDamage } from '../../src/repository/verify-disk.ts';
import { randomNumbers } from './model-disk.ts';
import { findDamage, restoredBytes } from './scratch-repository.ts';
import type { SmallRepository } from './small-repository.ts';

export interface Flip {
  readonly file: string;
  readonly offset: number;
  readonly mask: number;
}

export interface FlipCount {
  flipped: number;
  /** Flips that a quick look does not find, as they lie in data or in bytes that nothing uses. */
  readonly deep: Flip[];
}

function backupOf(small: SmallRepository, file: string): string {
  return parseFileName(`vms/vm-a/disk-0/${file}`)?.backupId ?? `${small.folder} holds ${file}`;
}

/** Everything that stands on a backup of the small repository, itself first. */
export function standingOn(small: SmallRepository, backupId: string): string[] {
  return backupId === small.full.backup_id ? small.sidecars.map((sidecar) => sidecar.backup_id) : [backupId];
}

export async function withFlip<Result>(small: SmallRepository, { file, offset, mask }: Flip, act: () => Promise<Result>): Promise<Result> {
  const path = join(small.folder, file);
  const bytes = readFileSync(path);
  const flipped = Buffer.from(bytes);
  flipped.writeUInt8((bytes[offset] ?? 0) ^ mask, offset);
  writeFileSync(path, flipped);
  try {
    return await act();
  } finally {
    writeFileSync(path, bytes);
  }
}

/** Flips every `stride`th byte of every file, once in a single bit and once in all, and looks at the metadata. */
export async function flipQuick(small: SmallRepository, stride: number, seed: number): Promise<FlipCount> {
  const random = randomNumbers(seed);
  const count: FlipCount = { flipped: 0, deep: [] };
  for (const file of readdirSync(small.folder)) {
    const size = readFileSync(join(small.folder, file)).length;
    for (let offset = random(stride); offset < size; offset += stride) {
      for (const mask of [1 << random(8), 0xff]) {
        const damage = await withFlip(small, { file, offset, mask }, () =>
          findDamage(small.repository, { quick: true, only: [backupOf(small, file)] }),
        );
        count.flipped++;
        if (damage.length === 0) count.deep.push({ file, offset, mask });
        else expectNamed(small, { file, offset, mask }, damage);
      }
    }
  }
  return count;
}

export function expectNamed(small: SmallRepository, flip: Flip, damage: readonly NamedDamage[]): void {
  const backupId = backupOf(small, flip.file);
  const named = damage.filter((found) => found.backupId === backupId);
  const hit = new Set(named.flatMap((found) => found.affects));
  const text = JSON.stringify(flip);
  expect(named.length, `${text} is named`).toBeGreaterThan(0);
  expect(hit.has(backupId), `${text} hits its own backup`).toBe(true);
  const inData = named.every((found) => found.guestOffset !== null);
  // Damage that is not in the data hits everything that stands on the backup.
  if (!inData) expect([...hit].sort(), text).toEqual(standingOn(small, backupId).sort());
}

/** Flips that only reading everything finds: each must be named by a whole verify, also by one that sees little of a file at a time. */
export async function flipDeep(small: SmallRepository, flips: readonly Flip[]): Promise<number> {
  for (const [index, flip] of flips.entries()) {
    const window = index % 2 === 0 ? {} : { windowClusters: 3 };
    const damage = await withFlip(small, flip, () => findDamage(small.repository, { only: [backupOf(small, flip.file)], ...window }));
    expectNamed(small, flip, damage);
  }
  return flips.length;
}

/**
 * With a flip in place every restore point is restored: what comes back is right, or nothing comes back; and verify of the whole disk
 * names every restore point that cannot be restored.
 */
export async function flipAndRestore(small: SmallRepository, flips: readonly Flip[], target: string): Promise<number> {
  for (const flip of flips) {
    await withFlip(small, flip, async () => {
      const damage = await findDamage(small.repository);
      const affected = new Set(damage.flatMap((found) => found.affects));
      for (const { backup_id: id } of small.sidecars) {
        const restored = await restoredBytes(small.repository, id, target).catch((error: unknown) => error);
        if (Buffer.isBuffer(restored))
          expect(restored.equals(small.disks.get(id) ?? Buffer.alloc(0)), `${JSON.stringify(flip)}: ${id}`).toBe(true);
        else {
          expect(isChainkeepError(restored), `${JSON.stringify(flip)}: ${String(restored)}`).toBe(true);
          expect(affected.has(id), `${JSON.stringify(flip)} keeps ${id} from being restored: ${String(restored)}`).toBe(true);
        }
      }
      expect(existsSync(target)).toBe(false);
    });
  }
  return flips.length;
}

/** Some of many, the same for the same seed. */
export function sample<Item>(items: readonly Item[], count: number, seed: number): Item[] {
  const random = randomNumbers(seed);
  const left = [...items];
  return Array.from({ length: Math.min(count, left.length) }, () => left.splice(random(left.length), 1)).flat();
}

/** Every byte of every file of the disk, each with one mask. */
export function everyFlip(small: SmallRepository, seed: number): Flip[] {
  const random = randomNumbers(seed);
  return readdirSync(small.folder).flatMap((file) => {
    const { length } = readFileSync(join(small.folder, file));
    return Array.from({ length }, (_, offset) => ({ file, offset, mask: 1 + random(255) }));
  });
}
