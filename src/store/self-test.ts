// Tries on a real store what backups will need, and says what of it works: `repo test`. A few of the conformance suite's behaviours.
// It writes only below a folder of its own and leaves nothing behind, also when a step fails.

import { type Clock, randomToken, systemClock } from '../plumbing/clock.ts';
import { ChainkeepError, isChainkeepError } from '../plumbing/errors.ts';
import type { BlobStore, PutOptions } from './blob-store.ts';

/** The same as in app.ts; stated here because a store knows nothing above it. */
export interface SelfTestStep {
  readonly name: string;
  readonly ok: boolean;
  readonly duration_ms: number;
  readonly message: string;
}

/** Everything that a self-test writes lies below names that begin like this. */
export const SELF_TEST_PREFIX = '.chainkeep-test-';
const SPEED_BYTES = 8 * 1024 * 1024;
const EMPTY = new Uint8Array(0);

interface Step {
  readonly name: string;
  /** Throws, or answers what a person should read. */
  run(trial: Trial): Promise<string>;
}

interface Trial {
  readonly store: BlobStore;
  readonly clock: Clock;
  /** Ends in a slash. */
  readonly folder: string;
}

const STEPS: readonly Step[] = [
  { name: 'reach', run: reach },
  { name: 'write', run: writeFirst },
  { name: 'read back', run: readBack },
  { name: 'list', run: list },
  { name: 'replace', run: replace },
  { name: 'create only', run: createOnly },
  { name: 'range read', run: rangeRead },
  { name: 'delete', run: remove },
  { name: 'capacity', run: capacity },
  { name: 'speed', run: speed },
  { name: 'clean up', run: cleanUp },
];

/** Runs every step. After a failed `reach` or `write` the others are not tried; the clean-up always is. */
export async function selfTest(store: BlobStore, clock: Clock = systemClock, name?: string): Promise<readonly SelfTestStep[]> {
  const trial = newTrial(store, clock, name);
  const results: SelfTestStep[] = [];
  let broken: string | undefined;
  for (const step of STEPS) {
    if (broken !== undefined && step.name !== 'clean up') {
      results.push({ name: step.name, ok: false, duration_ms: 0, message: `not tried, because "${broken}" failed` });
      continue;
    }
    const result = await runStep(step, trial);
    results.push(result);
    if (!result.ok && (step.name === 'reach' || step.name === 'write')) broken = step.name;
  }
  return results;
}

/**
 * The steps that decide whether backups can rest here, without measuring; throws the first error. Leaves nothing behind. `name` is that of its
 * folder, behind the prefix, and no other test's.
 */
export async function assertUsable(store: BlobStore, clock: Clock, name: string): Promise<void> {
  const trial = newTrial(store, clock, name);
  try {
    for (const step of STEPS) if (!['capacity', 'speed', 'clean up'].includes(step.name)) await step.run(trial);
  } catch (error) {
    await cleanUp(trial).catch(() => undefined); // what went wrong first is what counts
    throw error;
  }
  await cleanUp(trial);
}

function newTrial(store: BlobStore, clock: Clock, name = randomToken(12)): Trial {
  return { store, clock, folder: `${SELF_TEST_PREFIX}${name}/` };
}

async function runStep(step: Step, trial: Trial): Promise<SelfTestStep> {
  const started = trial.clock.monotonic();
  const answer = await step.run(trial).then(
    (message) => ({ ok: true, message }),
    (error: unknown) => ({ ok: false, message: describe(error) }),
  );
  return { name: step.name, ok: answer.ok, duration_ms: Math.round(trial.clock.monotonic() - started), message: answer.message };
}

function describe(error: unknown): string {
  if (isChainkeepError(error)) return `${error.code}: ${error.message}${error.advice ? ` (${error.advice})` : ''}`;
  return error instanceof Error ? error.message : String(error);
}

async function reach({ store, folder }: Trial): Promise<string> {
  await namesBelow(store, folder);
  return `${store.place} answers`;
}

async function writeFirst({ store, folder }: Trial): Promise<string> {
  await write(store, `${folder}a`, text('first'));
  return 'a blob was written';
}

async function readBack({ store, folder }: Trial): Promise<string> {
  await expectContent(store, `${folder}a`, text('first'));
  return 'the same bytes came back';
}

async function list({ store, folder }: Trial): Promise<string> {
  await write(store, `${folder}b/c`, text('below'));
  const names = await namesBelow(store, folder);
  expectThat(names.join(' ') === `${folder}a ${folder}b/c`, `the listing is wrong: ${names.join(' ') || 'empty'}`);
  return '2 blobs were listed in order';
}

async function replace({ store, folder }: Trial): Promise<string> {
  await write(store, `${folder}a`, text('second'));
  await expectContent(store, `${folder}a`, text('second'));
  return 'a blob was replaced in one step';
}

async function createOnly({ store, folder }: Trial): Promise<string> {
  const refused = await write(store, `${folder}a`, text('third'), { ifAbsent: true }).then(
    () => false,
    (error: unknown) => {
      if (isChainkeepError(error, 'BLOB_EXISTS')) return true;
      throw error;
    },
  );
  expectThat(refused, 'a blob that may only be created was replaced: two writers could overwrite each other');
  await expectContent(store, `${folder}a`, text('second'));
  await write(store, `${folder}d`, text('fourth'), { ifAbsent: true });
  return 'a taken name is refused, a free one is not';
}

async function rangeRead({ store, folder }: Trial): Promise<string> {
  await write(store, `${folder}range`, text('0123456789'));
  const source = await store.open(`${folder}range`);
  try {
    const part = new Uint8Array(3);
    await source.read(part, 4);
    expectThat(Buffer.from(part).toString() === '456', 'a range of a blob reads wrong');
  } finally {
    await source.close();
  }
  return '3 bytes from the middle of a blob were read';
}

async function remove({ store, folder }: Trial): Promise<string> {
  await store.delete(`${folder}a`);
  expectThat((await store.stat(`${folder}a`)) === undefined, 'a deleted blob is still there');
  await store.delete(`${folder}a`);
  return 'a blob was deleted';
}

async function capacity({ store }: Trial): Promise<string> {
  const room = await store.capacity();
  if (!room) return 'this store does not tell its capacity';
  expectThat(room.availableBytes > 0, `no room: 0 of ${room.totalBytes} bytes are available`);
  return `${room.availableBytes} of ${room.totalBytes} bytes are available`;
}

async function speed({ store, clock, folder }: Trial): Promise<string> {
  const bytes = new Uint8Array(SPEED_BYTES);
  for (let at = 0; at < bytes.length; at += 4096) bytes[at] = at / 4096 + 1; // no hole, and nothing that compresses to nothing at once
  const start = clock.monotonic();
  await write(store, `${folder}speed`, bytes);
  const written = clock.monotonic();
  await expectContent(store, `${folder}speed`, bytes);
  const read = clock.monotonic();
  const rate = (milliseconds: number): string => (SPEED_BYTES / 1000 / Math.max(milliseconds, 0.001)).toFixed(0);
  return `write ${rate(written - start)} MB/s, made durable; read ${rate(read - written)} MB/s`;
}

async function cleanUp(trial: Trial): Promise<string> {
  try {
    await removeAll(trial);
  } catch {
    await removeAll(trial); // once more, because a passing fault must not leave files behind; the second error is reported
  }
  return 'nothing is left behind';
}

async function removeAll({ store, folder }: Trial): Promise<void> {
  for (const name of await namesBelow(store, folder)) await store.delete(name);
  await store.sweep(folder, () => true); // the folder's name is this run's own: nobody else writes there
}

async function write(store: BlobStore, name: string, bytes: Uint8Array, options: PutOptions = {}): Promise<void> {
  const sink = await store.put(name, options);
  try {
    await sink.append([bytes]);
    await sink.finish(EMPTY);
  } catch (error) {
    await sink.abort();
    throw error;
  }
}

async function expectContent(store: BlobStore, name: string, expected: Uint8Array): Promise<void> {
  const source = await store.open(name);
  try {
    expectThat(source.size === expected.byteLength, `${name} is ${source.size} bytes long, ${expected.byteLength} were written`);
    const bytes = new Uint8Array(source.size);
    await source.read(bytes, 0);
    expectThat(Buffer.compare(bytes, expected) === 0, `${name} reads as other bytes than were written`);
  } finally {
    await source.close();
  }
}

async function namesBelow(store: BlobStore, folder: string): Promise<readonly string[]> {
  const names: string[] = [];
  for await (const blob of store.list(folder)) names.push(blob.name);
  return names;
}

function text(content: string): Uint8Array {
  return Buffer.from(content);
}

function expectThat(condition: boolean, fault: string): void {
  if (!condition) throw new ChainkeepError('STORE_FAILED', fault, { advice: 'do not keep backups here before this is understood' });
}
