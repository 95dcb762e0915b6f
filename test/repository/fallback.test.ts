// Without any native package everything works as well, slower: the same digests, and images that the others can read and verify.

import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { systemClock } from '../../src/plumbing/clock.ts';
import { silentLogger } from '../../src/plumbing/logger.ts';
import { claimRepository, openRepository } from '../../src/repository/repository.ts';
import { openLocalStore } from '../../src/store/local/local-store.ts';
import { qemuCheck, qemuImg } from '../qcow2/qemu-tools.ts';
import type { FallbackReport } from './fallback-process.ts';
import { changeDisk, randomNumbers, writeDisk } from './model-disk.ts';
import { scratchFolder } from './scratch-folder.ts';
import { findDamage } from './scratch-repository.ts';

const scratch = scratchFolder();
const PROCESS = fileURLToPath(new URL('./fallback-process.ts', import.meta.url));

it('native packages only make it faster', async () => {
  const random = randomNumbers(1);
  const first = Buffer.alloc(600 * 4096 + 513);
  changeDisk(first, 60, 4096, random);
  const second = Buffer.from(first);
  changeDisk(second, 5, 4096, random);
  writeDisk(scratch('first'), first, true);
  writeDisk(scratch('second'), second, true);
  const run = (root: string, native: string): FallbackReport => {
    const env = { ...process.env, CHAINKEEP_NATIVE: native };
    return JSON.parse(
      execFileSync(process.execPath, [PROCESS, root, scratch('first'), scratch('second')], { env, encoding: 'utf8', timeout: 60_000 }),
    );
  };
  const slow = run(scratch('slow'), 'off');
  const fast = run(scratch('fast'), 'on');
  expect([slow.native, fast.native]).toEqual([false, true]);
  expect([slow.damage, fast.damage]).toEqual([0, 0]);
  expect(slow.backups.map((backup) => backup.content_root)).toEqual(fast.backups.map((backup) => backup.content_root));
  expect(slow.backups.map((backup) => backup.clusters)).toEqual(fast.backups.map((backup) => backup.clusters));
  // Where nothing is compressed the whole digests files are equal, byte for byte.
  expect(slow.backups.slice(0, 2).map((backup) => backup.digests)).toEqual(fast.backups.slice(0, 2).map((backup) => backup.digests));
  for (const [root, { backups }] of [
    [scratch('slow'), slow],
    [scratch('fast'), fast],
  ] as const) {
    for (const [index, { id }] of backups.entries()) {
      const truth = index % 2 === 0 ? first : second;
      expect(readFileSync(`${root}-${id}.raw`).equals(truth)).toBe(true);
      const folder = join(root, 'vms/vm-a', `disk-${Math.floor(index / 2)}`);
      expect(qemuCheck(join(folder, `${id}.qcow2`)).code).toBe(0);
      writeDisk(scratch('padded'), Buffer.concat([truth, Buffer.alloc(512 - (truth.length % 512))]), true);
      qemuImg('compare', '-f', 'qcow2', '-F', 'raw', join(folder, `${id}.qcow2`), scratch('padded'));
    }
  }
  // What was written without is verified with.
  const store = await openLocalStore(scratch('slow'), { create: false });
  const { repository_id: repositoryId } = await claimRepository({ store, clock: systemClock, installationId: 'i', takeOver: false });
  const repository = await openRepository({ store, clock: systemClock, logger: silentLogger, repositoryId, installationId: 'i' });
  for (const diskId of [0, 1]) expect(await findDamage(repository, { place: { vmContextId: 'vm-a', diskId } })).toEqual([]);
  expect(readdirSync(scratch('slow')).sort()).toEqual(['chainkeep-repository.json', 'vms']);
}, 60_000);
