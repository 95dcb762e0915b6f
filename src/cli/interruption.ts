// Ctrl-C: the first one asks the running job to end cleanly, the second one ends the program at once.

import { ChainkeepError } from '../plumbing/errors.ts';
import { EXIT_FAILED } from './report-error.ts';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export interface Interruption {
  readonly signal: AbortSignal;
  /** Gives the signals back to Node. */
  close(): void;
}

/** Listens for signals until closed; `onFirst` runs once, before the abort signal fires. */
export function openInterruption(onFirst: () => void): Interruption {
  const controller = new AbortController();
  const interrupt = (name: NodeJS.Signals): void => {
    if (controller.signal.aborted) process.exit(EXIT_FAILED);
    onFirst();
    controller.abort(
      new ChainkeepError('CANCELLED', `cancelled by ${name}`, { advice: 'nothing half done is left behind; run the same command again' }),
    );
  };
  for (const name of SIGNALS) process.on(name, interrupt);
  return {
    signal: controller.signal,
    close: () => {
      for (const name of SIGNALS) process.off(name, interrupt);
    },
  };
}
