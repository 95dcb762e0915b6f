// The steps of the self-test, in their order: each tries one thing and says what it found.
// It must not catch what it does not expect: an error is the finding of its step.

import { type Clock, isoTime } from '../plumbing/clock.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import { type BehaviourGroup, behave, TRIAL_RETENTION_MS } from './behaviours.ts';
import { adviceFor, isAccessDenied } from './self-test-advice.ts';
import { expectContent, listNames, type Trial, trialBytes, writeBlob } from './trial.ts';

const SPEED_BYTES = 8 * 1024 * 1024;
const MOST_CLOCK_DIFFERENCE_MS = 60_000;

export interface Attempt extends Trial {
  readonly clock: Clock;
  readonly immutable: boolean;
  readonly retention: boolean;
}

export interface Finding {
  readonly message: string;
  readonly advice?: string;
  readonly warning?: boolean;
  readonly bytesPerSecond?: number;
}

export interface Step {
  readonly name: string;
  /** Throws, or answers what a person should read. */
  run(attempt: Attempt): Promise<string | Finding>;
  /** When it fails the others are not tried. */
  readonly decides?: true;
  /** It measures: a registration does without. */
  readonly measures?: true;
}

export const STEPS: readonly Step[] = [
  { name: 'reach', run: reach, decides: true },
  { name: 'authenticate', run: authenticate, decides: true },
  { name: 'write', run: (attempt) => tried(attempt, 'write', 'a blob was written'), decides: true },
  { name: 'read back', run: (attempt) => tried(attempt, 'read back', 'ranges of a blob came back as they were written') },
  { name: 'list', run: (attempt) => tried(attempt, 'list', 'blobs were listed in order') },
  { name: 'replace', run: (attempt) => tried(attempt, 'replace', 'a blob was replaced, and who had it open noticed or kept it') },
  { name: 'create only', run: createOnly },
  { name: 'delete', run: (attempt) => tried(attempt, 'delete', 'a blob was deleted') },
  { name: 'retention', run: retention, measures: true },
  { name: 'clock', run: clockDifference, measures: true },
  { name: 'capacity', run: capacity, measures: true },
  { name: 'speed up', run: speedUp, measures: true },
  { name: 'speed down', run: speedDown, measures: true },
];

/** Whoever refuses has answered: what he thinks of us is the next step. */
async function reach({ store, folder }: Attempt): Promise<string | Finding> {
  try {
    await listNames(store, folder);
  } catch (error) {
    if (!isAccessDenied(error)) throw error;
  }
  return `${store.place} answers`;
}

async function authenticate({ store, folder }: Attempt): Promise<string | Finding> {
  await listNames(store, folder);
  return 'this user, or its key, may read here';
}

async function tried(attempt: Attempt, group: BehaviourGroup, done: string): Promise<string> {
  await behave(attempt, group);
  return done;
}

async function createOnly(attempt: Attempt): Promise<string | Finding> {
  await behave(attempt, 'create only');
  if (attempt.store.capabilities.createOnly) return 'a taken name is refused by the store itself, in one step';
  return {
    message: 'a taken name is refused by a look before and a look behind; the store itself does not refuse it',
    advice: 'safe as long as all writers are of this installation: they keep out of each other’s way by leases',
    warning: true,
  };
}

async function retention(attempt: Attempt): Promise<string | Finding> {
  const { store, immutable } = attempt;
  const { retention: kind, retentionMark: mark } = store.capabilities;
  if (kind === 'none') {
    if (!immutable) return 'this store protects nothing against deletion';
    throw new ChainkeepError('NOT_SUPPORTED', 'the repository shall lock its backups, and its store cannot lock anything', {
      advice: 'switch locking on in the store first, or use another one',
    });
  }
  if (kind === 'advisory' && !immutable && !attempt.retention) return 'it can protect against mistakes; the repository does not ask for it';
  if (kind === 'enforced' && !attempt.retention) {
    const advice = `try it with --retention: one small file stays for ${TRIAL_RETENTION_MS / 1000} seconds`;
    return { message: 'not tried: the store keeps a locked file until its date', advice };
  }
  await behave(attempt, 'retention');
  if (kind === 'enforced') return 'a locked blob is kept by the store, whoever asks';
  const by = mark === 'attribute' ? 'an attribute that only root can take off' : mark === 'mode' ? 'its mode alone' : 'this program';
  return {
    message: `a locked blob is kept, by ${by}`,
    ...(mark === 'mode' && { warning: true, advice: adviceFor('retention', undefined) ?? '' }),
  };
}

/** Its own clock where it has one, else the time of what was just written there. */
async function clockDifference({ store, clock, folder }: Attempt): Promise<string | Finding> {
  const before = clock.now();
  let theirs = await store.now();
  if (theirs === undefined) {
    await writeBlob(store, `${folder}time`, 'now');
    theirs = (await store.stat(`${folder}time`))?.modifiedAt;
  }
  if (theirs === undefined) return 'this store does not tell the time';
  const between = (before + clock.now()) / 2;
  const seconds = Math.round((theirs - between) / 100) / 10;
  if (Math.abs(theirs - between) <= MOST_CLOCK_DIFFERENCE_MS) return `its clock and ours differ by ${Math.abs(seconds)} s`;
  const which = seconds > 0 ? 'ahead of' : 'behind';
  const message = `its clock is ${Math.abs(seconds)} s ${which} ours: it says ${isoTime(theirs)}`;
  return { message, warning: true, advice: adviceFor('clock', undefined) ?? '' };
}

async function capacity({ store }: Attempt): Promise<string | Finding> {
  const room = await store.capacity();
  if (!room) return 'this store does not tell its capacity';
  if (room.availableBytes === 0) {
    return {
      message: `0 of ${room.totalBytes} bytes are available`,
      advice: 'no backup fits before there is room',
      warning: true,
    };
  }
  return `${room.availableBytes} of ${room.totalBytes} bytes are available`;
}

async function speedUp({ store, clock, folder }: Attempt): Promise<string | Finding> {
  const bytes = trialBytes(SPEED_BYTES);
  const start = clock.monotonic();
  await writeBlob(store, `${folder}speed`, bytes);
  return measured('written and made durable', clock.monotonic() - start);
}

async function speedDown({ store, clock, folder }: Attempt): Promise<string | Finding> {
  const bytes = trialBytes(SPEED_BYTES);
  const start = clock.monotonic();
  await expectContent(store, `${folder}speed`, bytes);
  return measured('read', clock.monotonic() - start);
}

function measured(what: string, milliseconds: number): Finding {
  const bytesPerSecond = Math.round(SPEED_BYTES / (Math.max(milliseconds, 0.001) / 1000));
  return { message: `${what} at ${(bytesPerSecond / 1e6).toFixed(bytesPerSecond < 1e7 ? 1 : 0)} MB/s`, bytesPerSecond };
}
