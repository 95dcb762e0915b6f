// Keeps a repository that is offline or slow from delaying anybody: a limit on every attempt to reach it, no second attempt beside one that hangs
// (each would occupy a thread of this process for good), and for those that run long a time before which it need not be tried again.
// It must not know what is done there.

import { LATE, within } from '../plumbing/abandoned-work.ts';
import type { Clock } from '../plumbing/clock.ts';
import { ChainkeepError, isChainkeepError } from '../plumbing/errors.ts';
import { pauseAfter } from '../plumbing/pause.ts';

interface State {
  /** Settles when an attempt that was given up answers after all. */
  hanging: Promise<void> | undefined;
  failures: number;
  /** By the monotonic clock. */
  nextTry: number;
}

export interface Attempt<T> {
  /** Id and name of the repository, or the place of one that has none yet. */
  readonly id: string;
  readonly name: string;
  /** Milliseconds, where it is another limit than for most. */
  readonly limit?: number | undefined;
  run(): Promise<T>;
  /** Closes what came too late. */
  dispose?(late: T): Promise<void>;
}

export interface Reachability {
  /** Runs the attempt. REPOSITORY_OFFLINE when it takes longer than the limit, or an earlier one still hangs then. */
  reach<T>(attempt: Attempt<T>): Promise<T>;
  /** False while a repository that did not answer is left alone: twice as long after each failure, up to five minutes. */
  isDue(id: string): boolean;
}

/** `limit` in milliseconds. */
export function openReachability(clock: Clock, usualLimit: number): Reachability {
  const states = new Map<string, State>();
  const stateOf = (id: string): State => {
    const state = states.get(id) ?? { hanging: undefined, failures: 0, nextTry: 0 };
    states.set(id, state);
    return state;
  };
  const failed = (state: State): void => {
    state.nextTry = clock.monotonic() + pauseAfter(state.failures);
    state.failures += 1;
  };
  return {
    isDue: (id) => clock.monotonic() >= (states.get(id)?.nextTry ?? 0),
    reach: async (attempt) => {
      const state = stateOf(attempt.id);
      const { limit = usualLimit } = attempt;
      try {
        if (state.hanging && (await within(state.hanging, limit)) === LATE) throw silent(attempt, limit);
        const answer = await answerOf(attempt, state, limit);
        state.failures = 0;
        state.nextTry = 0;
        return answer;
      } catch (error) {
        if (isChainkeepError(error, 'REPOSITORY_OFFLINE')) failed(state);
        throw error;
      }
    },
  };
}

async function answerOf<T>(attempt: Attempt<T>, state: State, limit: number): Promise<T> {
  const running = attempt.run();
  const answer = await within(running, limit);
  if (answer !== LATE) return answer;
  const ended = running
    .then(
      (late) => attempt.dispose?.(late),
      () => undefined, // it was reported as not answering
    )
    .catch(() => undefined)
    .finally(() => {
      if (state.hanging === ended) state.hanging = undefined;
    });
  state.hanging = ended;
  throw silent(attempt, limit);
}

function silent({ name }: { readonly name: string }, limit: number): ChainkeepError {
  const seconds = Math.round(limit / 100) / 10;
  return new ChainkeepError('REPOSITORY_OFFLINE', `the repository ${name} has not answered within ${seconds} s`, {
    advice:
      'is its disk, share or network down? it is tried again when it is needed; "chainkeep repo update NAME --disable" leaves it alone',
    context: { repository: name, time_limit_ms: limit },
    retryable: true,
  });
}
