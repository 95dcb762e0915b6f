// Errors that cross from one process to another: the same code, message, advice and context at the other end.

import { ChainkeepError, ERROR_CODES, type ErrorCode, type ErrorContext, isChainkeepError } from '../../plumbing/errors.ts';
import type { SentError } from './requests.ts';

/** `shown`: paths as people know them, in place of those that only the sending process has. */
export function encodeError(error: unknown, shown: (text: string) => string): SentError {
  const message = error instanceof Error ? error.message : String(error);
  if (!isChainkeepError(error)) return { code: 'INTERNAL', message: shown(message), context: {}, retryable: false };
  const { code, advice, context, retryable, cause } = error;
  return {
    code,
    message: shown(message),
    advice: advice === undefined ? undefined : shown(advice),
    context: Object.fromEntries(Object.entries(context).map(([name, value]) => [name, typeof value === 'string' ? shown(value) : value])),
    retryable,
    cause: cause === undefined ? undefined : shown(cause instanceof Error ? cause.message : String(cause)),
  };
}

export function parseError({ code, message, advice, context, retryable, cause }: SentError): ChainkeepError {
  return new ChainkeepError(isErrorCode(code) ? code : 'INTERNAL', message, {
    ...(advice !== undefined && { advice }),
    context: Object.fromEntries(
      Object.entries(context).filter((entry): entry is [string, ErrorContext[string]] => isContextValue(entry[1])),
    ),
    retryable,
    ...(cause !== undefined && { cause: new Error(cause) }),
  });
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERROR_CODES, code);
}

function isContextValue(value: unknown): value is ErrorContext[string] {
  return (
    ['string', 'number', 'boolean'].includes(typeof value) || (Array.isArray(value) && value.every((item) => typeof item === 'string'))
  );
}
