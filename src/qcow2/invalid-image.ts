// The two errors of this room: an image that breaks the format, and one that uses what is refused on purpose.
// Parsers throw them without a name; `withImageName` adds which image it was, at the place that knows.

import { ChainkeepError, type ErrorContext, isChainkeepError } from '../plumbing/errors.ts';

const DAMAGED = 'the image is damaged: take it from another copy, or look at it with `chainkeep image check`';

export function invalidImage(message: string, context: ErrorContext = {}, cause?: unknown): ChainkeepError {
  return new ChainkeepError('QCOW2_INVALID', message, { advice: DAMAGED, context, cause });
}

export function unsupportedImage(message: string, advice: string, context: ErrorContext = {}): ChainkeepError {
  return new ChainkeepError('QCOW2_UNSUPPORTED', message, { advice, context });
}

/** The same error with the image's name in front; anything but this room's two errors comes back as it is. */
export function withImageName(name: string, error: unknown): unknown {
  if (!isChainkeepError(error, 'QCOW2_INVALID') && !isChainkeepError(error, 'QCOW2_UNSUPPORTED')) return error;
  if (error.context.image !== undefined) return error;
  const context = { ...error.context, image: name };
  return new ChainkeepError(error.code, `${name}: ${error.message}`, { advice: error.advice, context, cause: error });
}
