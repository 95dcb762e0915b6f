// The commit under faults: every operation of the store fails in turn, once or from then on, before or after it was done.
// Afterwards there is a completed backup that restores byte for byte, or nothing that counts; what was there before is whole.

import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openRawReader } from '../../src/disk/raw-file-reader.ts';
import { isChainkeepError } from '../../src/plumbing/errors.ts';
import type { BackupRequest } from '../../src/repository/create-backup.ts';
import type { Sidecar } from '../../src/repository/sidecar-fields.ts';
import { type FaultPlan, faultyStore } from '../../src/store/testing/faulty-store.ts';
import { listLeftovers } from '../../src/store/testing/store-probe.ts';
import { bytesSource, noiseBytes, randomNumbers, textBytes } from './model-disk.ts';
import { scratchFolder } from './scratch-folder.ts';
import {
  backUp,
  findDamage,
  heldGuard,
  makeRepository,
  PLACE,
  requestFor,
  restoredBytes,
  type TestRepository,
} from './scratch-repository.ts';

const scratch = scratchFolder();
const CLUSTER = 4096;
let made = 0;

interface Scene {
  readonly test: TestRepository;
  /** Backups that were there before, with what they read as. */
  readonly before: readonly { readonly sidecar: Sidecar; readonly disk: Buffer }[];
  readonly disk: Buffer;
  readonly type: BackupRequest['type'];
  readonly compression: 'none' | 'zstd';
}

async function setScene(type: 'full' | 'incremental' | 'differential', compression: 'none' | 'zstd'): Promise<Scene> {
  made++;
  const test = await makeRepository(scratch(`scene-${made}`));
  const random = randomNumbers(made);
  const first = Buffer.concat([noiseBytes(5 * CLUSTER, random), textBytes(3 * CLUSTER, random), Buffer.alloc(777, 1)]);
  const second = Buffer.from(first);
  second.set(textBytes(CLUSTER, random), CLUSTER);
  const third = Buffer.from(second);
  third.set(noiseBytes(2 * CLUSTER, random), 3 * CLUSTER);
  third.fill(0, 0, CLUSTER);
  const before: { sidecar: Sidecar; disk: Buffer }[] = [];
  for (const disk of type === 'full' ? [] : [first, second]) {
    const { sidecar } = await backUp(test.repository, openRawReader(bytesSource(disk)), { compression, clusterSize: CLUSTER });
    before.push({ sidecar, disk });
  }
  return { test, before, disk: third, type, compression };
}

/** Backs up through a store that fails as planned; answers the store's operations and what became of it. */
async function runFaulty(
  scene: Scene,
  plan: FaultPlan,
): Promise<{ operations: readonly string[]; created?: Sidecar; error?: unknown; id: string }> {
  const request = requestFor(openRawReader(bytesSource(scene.disk)), {
    type: scene.type,
    compression: scene.compression,
    clusterSize: CLUSTER,
  });
  const decided = await scene.test.repository.planBackup(request);
  // The repository is opened before anything fails; from here on every operation counts.
  let live = scene.test.store;
  const repository = await scene.test.through(delegate(() => live));
  const faulty = faultyStore(scene.test.store, plan);
  live = faulty.store;
  try {
    const { sidecar } = await repository.runBackup(request, decided, { guard: heldGuard() });
    return { operations: faulty.operations, created: sidecar, id: decided.backupId };
  } catch (error) {
    return { operations: faulty.operations, error, id: decided.backupId };
  }
}

function delegate(store: () => TestRepository['store']): TestRepository['store'] {
  return {
    get place() {
      return store().place;
    },
    get capabilities() {
      return store().capabilities;
    },
    list: (prefix) => store().list(prefix),
    stat: (name) => store().stat(name),
    open: (name) => store().open(name),
    put: (name, options) => store().put(name, options),
    delete: (name) => store().delete(name),
    sweep: (prefix, isDead) => store().sweep(prefix, isDead),
    capacity: () => store().capacity(),
    close: async () => undefined,
  };
}

/** Is everything as it must be after a run that may have failed? Answers whether the new backup counts. */
async function checkInvariants({ test, before, disk }: Scene, id: string, mustCount: boolean | undefined, what: string): Promise<boolean> {
  const { repository } = test;
  const folder = await repository.readDisk(PLACE);
  expect([...folder.damaged.keys()], `${what}: nothing is damaged`).toEqual([]);
  const counted = folder.sidecars.some((sidecar) => sidecar.backup_id === id);
  if (mustCount !== undefined) expect(counted, `${what}: counts`).toBe(mustCount);
  const old = before.map(({ sidecar }) => sidecar.backup_id);
  expect(
    folder.sidecars.map((sidecar) => sidecar.backup_id),
    what,
  ).toEqual(counted ? [...old, id] : old);
  if (counted) expect((await restoredBytes(repository, id, scratch('out'))).equals(disk), `${what}: restores`).toBe(true);
  await repository.removeRubbish(PLACE, heldGuard(), async () => 'dead');
  expect(await listLeftovers(test.store), `${what}: no leftovers`).toEqual([]);
  const files = before.length + (counted ? 1 : 0);
  expect(files === 0 ? [] : readdirSync(test.folder).length, what).toEqual(files === 0 ? [] : 3 * files);
  return counted;
}

async function checkAll({ test, before }: Scene, what: string): Promise<void> {
  expect(await findDamage(test.repository), what).toEqual([]);
  for (const { sidecar, disk } of before) {
    expect((await restoredBytes(test.repository, sidecar.backup_id, scratch('out'))).equals(disk), what).toBe(true);
  }
}

type Fault = Required<Pick<FaultPlan, 'effect' | 'sticky'>>;

const EVERY_FAULT: readonly Fault[] = (['before', 'after', 'torn'] as const).flatMap((effect) => [
  { effect, sticky: false },
  { effect, sticky: true },
]);

/** All of them with all kinds of backups: npm run test:all. */
function some(...faults: readonly Fault[]): readonly Fault[] {
  return process.env.CHAINKEEP_TEST_ALL ? EVERY_FAULT : faults;
}

describe.each([
  ['full', 'none', some({ effect: 'before', sticky: true }, { effect: 'after', sticky: false })],
  ['incremental', 'zstd', some({ effect: 'before', sticky: false }, { effect: 'after', sticky: true }, { effect: 'torn', sticky: false })],
  ['differential', 'none', some({ effect: 'after', sticky: false })],
] as const)('a %s backup, compression %s', (type, compression, faults) => {
  it.each(faults)(
    'is whole or nothing when any operation fails: $effect, sticky $sticky',
    async (fault) => {
      const scene = await setScene(type, compression);
      let failed = 0;
      for (let failAt = 1; failAt < 500; failAt++) {
        const { operations, created, error, id } = await runFaulty(scene, { ...fault, failAt });
        const what = `${type}, ${fault.effect}, sticky ${fault.sticky}, ${operations[failAt - 1] ?? 'no fault'}`;
        if (error !== undefined) expect(isChainkeepError(error), `${what}: ${String(error)}`).toBe(true);
        const counted = await checkInvariants(scene, id, created ? true : undefined, what);
        if (operations.length < failAt) {
          expect(created?.backup_id, what).toBe(id);
          await checkAll(scene, what);
          expect(failed, 'there was something to fail').toBeGreaterThan(10);
          return;
        }
        failed++;
        if (failAt % 7 === 0) await checkAll(scene, what);
        if (counted) {
          // The same fault again must meet the same chain.
          const plan = await scene.test.repository.planDelete(PLACE, id);
          await scene.test.repository.runDelete(plan, heldGuard());
        }
      }
      throw new Error('it never came to an end');
    },
    60_000,
  );
});
