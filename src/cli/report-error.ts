// How an error is told: message and advice on stderr, with `--json` also one document on stdout, and the exit code.

import { ChainkeepError, type ErrorContext, systemCode } from '../plumbing/errors.ts';
import { safeJson, safeText } from './safe-text.ts';

export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;

const USAGE_ADVICE = 'chainkeep --help lists the commands, chainkeep COMMAND --help the options of one';

/** Prints the error and answers the exit code. A stack is shown only with CHAINKEEP_DEBUG=1. */
export function reportError(thrown: unknown, json: boolean): number {
  const error = thrown instanceof ChainkeepError ? thrown : unexpected(thrown);
  const advice = error.advice ?? (error.code === 'USAGE' ? USAGE_ADVICE : undefined);
  process.stderr.write(`error: ${safeText(error.message)}\n`);
  if (advice) process.stderr.write(`advice: ${safeText(advice)}\n`);
  if (process.env.CHAINKEEP_DEBUG) process.stderr.write(`${stackOf(thrown)}\n`);
  if (json) {
    const answer = { success: false, error: error.message, error_code: error.code, ...(advice && { advice }) };
    process.stdout.write(`${safeJson({ ...answer, ...withoutKeys(error.context, answer) })}\n`);
  }
  return error.code === 'USAGE' ? EXIT_USAGE : EXIT_FAILED;
}

/** Troubles of the process itself, which can come up anywhere. */
const OF_THE_PROCESS: Readonly<Record<string, readonly [message: string, advice: string]>> = {
  EMFILE: ['this process may not open more files', 'raise the limit, for example with: ulimit -n 4096'],
  ENFILE: ['this machine has too many files open', 'try again, or raise the limit fs.file-max'],
};

/** Whatever is not ours is a bug: nobody below thought of it. */
function unexpected(thrown: unknown): ChainkeepError {
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  const [known, advice] = OF_THE_PROCESS[systemCode(thrown) ?? ''] ?? [];
  if (known) return new ChainkeepError('CONFIG_INVALID', known, { ...(advice && { advice }), cause: thrown });
  if (message.includes('process.cwd failed')) {
    const advice = 'change to a folder that is there: cd';
    return new ChainkeepError('CONFIG_INVALID', 'the current folder does not exist any more', { advice, cause: thrown });
  }
  return new ChainkeepError('INTERNAL', `internal error: ${message}`, {
    advice: 'this is a bug in Chainkeep: please report it; the same command with CHAINKEEP_DEBUG=1 shows where it happened',
    cause: thrown,
  });
}

/** Context fields must not hide the fields that scripts read. */
function withoutKeys(fields: ErrorContext, taken: object): ErrorContext {
  return Object.fromEntries(Object.entries(fields).filter(([name]) => !(name in taken)));
}

function stackOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return safeText(String(thrown));
  const lines = (thrown.stack ?? thrown.message).split('\n').map(safeText).join('\n');
  return thrown.cause === undefined ? lines : `${lines}\ncaused by: ${stackOf(thrown.cause)}`;
}
