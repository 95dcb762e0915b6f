// Several damages at once, of every sort: verify never gives up, every restore gives the right bytes or none, and who cannot be restored is named.

import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { isChainkeepError } from '../../src/plumbing/errors.ts';
import { type Random, randomNumbers } from './model-disk.ts';
import { scratchFolder } from './scratch-folder.ts';
import { findDamage, restoredBytes } from './scratch-repository.ts';
import { makeSmallRepository, type SmallRepository } from './small-repository.ts';

const scratch = scratchFolder();
/** More of them by hand: CHAINKEEP_DAMAGES=2000. */
const ROUNDS = Number(process.env.CHAINKEEP_DAMAGES ?? (process.env.CHAINKEEP_TEST_ALL ? 500 : 12));

function damageOnce(small: SmallRepository, random: Random): string {
  const files = readdirSync(small.folder);
  const pick = (): string => files[random(files.length)] ?? '';
  const name = pick();
  const path = join(small.folder, name);
  if (!existsSync(path)) return 'nothing';
  const bytes = readFileSync(path);
  const at = random(Math.max(1, bytes.length));
  const length = 1 + random(600);
  switch (random(8)) {
    case 0:
      rmSync(path);
      return `${name} removed`;
    case 1:
      writeFileSync(path, bytes.subarray(0, at));
      return `${name} cut to ${at}`;
    case 2:
      writeFileSync(path, Buffer.concat([bytes, Buffer.alloc(length, random(256))]));
      return `${name} continued by ${length}`;
    case 3: {
      const other = join(small.folder, pick());
      const content = readFileSync(other);
      writeFileSync(other, bytes);
      writeFileSync(path, content);
      return `${name} and ${other} swapped`;
    }
    case 4:
      bytes.fill(random(2) * 0xff, at, Math.min(bytes.length, at + length));
      writeFileSync(path, bytes);
      return `${name} filled from ${at}, ${length} bytes`;
    case 5:
      bytes.copyWithin(at, random(bytes.length), random(bytes.length));
      writeFileSync(path, bytes);
      return `${name} copied within to ${at}`;
    default:
      if (bytes.length > 0) bytes.writeUInt8((bytes[at] ?? 0) ^ (1 << random(8)), at);
      writeFileSync(path, bytes);
      return `${name} flipped at ${at}`;
  }
}

async function checkRound(small: SmallRepository, seed: number): Promise<void> {
  const random = randomNumbers(seed);
  const done = Array.from({ length: 1 + random(5) }, () => damageOnce(small, random));
  const what = `seed ${seed}: ${done.join(', ')}`;
  const damage = await findDamage(small.repository).catch((error: unknown) => {
    throw new Error(`${what}: verify gave up`, { cause: error });
  });
  const affected = new Set(damage.flatMap((found) => found.affects));
  for (const { backup_id: id } of small.sidecars) {
    const restored = await restoredBytes(small.repository, id, scratch('out')).catch((error: unknown) => error);
    if (Buffer.isBuffer(restored)) {
      expect(restored.equals(small.disks.get(id) ?? Buffer.alloc(0)), `${what}: ${id} came back wrong`).toBe(true);
      continue;
    }
    expect(isChainkeepError(restored), `${what}: ${String(restored)}`).toBe(true);
    // A backup without its sidecar is none; the catalog misses it.
    const isThere = existsSync(join(small.folder, `${id}.json`));
    expect(affected.has(id), `${what}: ${id} is named (${String(restored)})`).toBe(isThere || affected.has(id));
  }
}

it.each(['none', 'zstd'] as const)(
  'much damage is survived, compression %s',
  async (compression) => {
    const small = await makeSmallRepository(scratch(`small-${compression}`), compression, 1);
    for (let round = 0; round < ROUNDS; round++) {
      await checkRound(small, round * 2 + (compression === 'none' ? 0 : 1));
      small.heal();
      expect(await findDamage(small.repository, { quick: true })).toEqual([]);
    }
  },
  3_600_000,
);
