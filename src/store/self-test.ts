// Tries on a real store what backups will need, step by step, and says what to do about what fails: `repo test`. What it asserts is the list in
// behaviours.ts, which every store of this program passes.
// It writes only below a folder of its own and leaves nothing behind, also when a step fails.

import { type Clock, isoTime, randomToken, systemClock } from '../plumbing/clock.ts';
import { isChainkeepError } from '../plumbing/errors.ts';
import { TRIAL_RETENTION_MS } from './behaviours.ts';
import type { BlobStore } from './blob-store.ts';
import { adviceFor, isAccessDenied } from './self-test-advice.ts';
import { SELF_TEST_PREFIX } from './self-test-prefix.ts';
import { type Attempt, type Finding, STEPS, type Step } from './self-test-steps.ts';
import { listNames } from './trial.ts';

/** The same as in app-interface.ts; stated here because a store knows nothing above it. */
export interface SelfTestStep {
  readonly name: string;
  readonly ok: boolean;
  /** It works, and there is something to know or to change. */
  readonly warning: boolean;
  readonly duration_ms: number;
  readonly message: string;
  readonly advice: string | null;
  /** Only of the steps that measure. */
  readonly bytes_per_second?: number;
}

export interface SelfTestOptions {
  readonly clock?: Clock;
  /** Of its folder, behind the prefix, and no other test's. */
  readonly name?: string;
  /** The repository shall lock its backups. */
  readonly immutable?: boolean;
  /** Also where a locked blob cannot be taken away before its date. */
  readonly retention?: boolean;
}

/** Runs every step. After a failed `reach`, `authenticate` or `write` the others are not tried; the clean-up always is. */
export async function selfTest(store: BlobStore, options: SelfTestOptions = {}): Promise<readonly SelfTestStep[]> {
  const attempt = newAttempt(store, options);
  const results: SelfTestStep[] = [];
  let broken: string | undefined;
  for (const step of STEPS) {
    if (broken !== undefined) {
      results.push(notTried(step.name, broken));
      continue;
    }
    const result = await runStep(step, attempt);
    results.push(result);
    if (!result.ok && step.decides) broken = step.name;
  }
  return [...results, await runStep({ name: 'clean up', run: cleanUp }, attempt)];
}

const UNREACHABLE: readonly string[] = ['REPOSITORY_OFFLINE', 'STORE_FAILED', 'MOUNT_FAILED', 'CONNECTION_FAILED'];

/**
 * What a self-test says of a store that could not be opened or looked into. That a place cannot be reached or does not let us in is what the test is
 * for; any other error (wrong settings, somebody else's place) is thrown again.
 */
export function failedToOpen(error: unknown): readonly SelfTestStep[] {
  if (!isChainkeepError(error) || !UNREACHABLE.includes(error.code)) throw error;
  const at = isAccessDenied(error) ? 'authenticate' : 'reach';
  const before = STEPS.findIndex(({ name }) => name === at);
  return STEPS.map(({ name }, index) => {
    if (index < before) return stepOf(name, 0, { message: 'it answers' });
    return index === before ? failed(name, 0, error) : notTried(name, at);
  });
}

/**
 * The steps that decide whether backups can rest here, without measuring; throws the first error. Leaves nothing behind. `name` is that of its
 * folder, behind the prefix, and no other test's.
 */
export async function assertUsable(store: BlobStore, clock: Clock, name: string): Promise<void> {
  const attempt = newAttempt(store, { clock, name });
  try {
    for (const step of STEPS) if (!step.measures) await step.run(attempt);
  } catch (error) {
    await cleanUp(attempt).catch(() => undefined); // what went wrong first is what counts
    throw error;
  }
  await cleanUp(attempt);
}

function newAttempt(store: BlobStore, options: SelfTestOptions): Attempt {
  const { clock = systemClock, name = randomToken(12), immutable = false, retention = false } = options;
  return { store, clock, folder: `${SELF_TEST_PREFIX}${name}/`, immutable, retention };
}

async function runStep(step: Step, attempt: Attempt): Promise<SelfTestStep> {
  const started = attempt.clock.monotonic();
  const duration = (): number => Math.round(attempt.clock.monotonic() - started);
  return step.run(attempt).then(
    (finding) => stepOf(step.name, duration(), typeof finding === 'string' ? { message: finding } : finding),
    (error: unknown) => failed(step.name, duration(), error),
  );
}

function stepOf(name: string, duration: number, finding: Finding): SelfTestStep {
  const { message, advice = null, warning = false, bytesPerSecond } = finding;
  const speed = bytesPerSecond === undefined ? {} : { bytes_per_second: bytesPerSecond };
  return { name, ok: true, warning, duration_ms: duration, message, advice, ...speed };
}

function failed(name: string, duration: number, error: unknown): SelfTestStep {
  const text = error instanceof Error ? error.message : String(error);
  const message = isChainkeepError(error) ? `${error.code}: ${text}` : text;
  return { name, ok: false, warning: false, duration_ms: duration, message, advice: adviceFor(name, error) };
}

function notTried(name: string, broken: string): SelfTestStep {
  return { name, ok: false, warning: false, duration_ms: 0, message: `not tried, because "${broken}" failed`, advice: null };
}

async function cleanUp(attempt: Attempt): Promise<string | Finding> {
  let locked: readonly string[];
  try {
    locked = await removeAll(attempt);
  } catch {
    locked = await removeAll(attempt); // once more, because a passing fault must not leave files behind; the second error is reported
  }
  if (locked.length === 0) return 'nothing is left behind';
  const until = isoTime(attempt.clock.now() + TRIAL_RETENTION_MS);
  return { message: `${locked.length} small file stays until ${until}, because it is locked`, advice: 'the next test takes it away' };
}

/** Answers what is locked and stays. */
async function removeAll({ store, folder }: Attempt): Promise<readonly string[]> {
  const locked: string[] = [];
  for (const name of await listNames(store, folder)) {
    if (!(await removeOne(store, name))) locked.push(name);
  }
  await store.sweep(folder, () => true); // the folder's name is this run's own: nobody else writes there
  return locked;
}

/** Deletes what a self-test wrote; false for what the store keeps until its date. */
export async function removeOne(store: BlobStore, name: string): Promise<boolean> {
  const isLock = (error: unknown): boolean =>
    isChainkeepError(error, 'IMMUTABLE_RETENTION_ACTIVE') || isChainkeepError(error, 'HOLD_ACTIVE');
  try {
    await store.delete(name);
    return true;
  } catch (error) {
    if (!isLock(error)) throw error;
  }
  await store.release(name);
  try {
    await store.delete(name);
    return true;
  } catch (error) {
    if (!isLock(error)) throw error;
    return false;
  }
}
