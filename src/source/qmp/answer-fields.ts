// Answers of QEMU and of guest agents, read with suspicion: what is not of the form that is expected is an error and never a default.

import { ChainkeepError } from '../../plumbing/errors.ts';

export type Answer = Readonly<Record<string, unknown>>;

/** Throws HYPERVISOR_FAILED; `what` names the answer: `query-block`. */
export function asAnswer(value: unknown, what: string): Answer {
  if (isAnswer(value)) return value;
  throw odd(what, 'is no object');
}

export function isAnswer(value: unknown): value is Answer {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function asList(value: unknown, what: string): readonly Answer[] {
  if (!Array.isArray(value)) throw odd(what, 'is no list');
  return value.map((entry: unknown) => asAnswer(entry, what));
}

export function textOf(answer: Answer, field: string, what: string): string {
  const value = answer[field];
  if (typeof value === 'string') return value;
  throw odd(what, `has no text "${field}"`);
}

export function sizeOf(answer: Answer, field: string, what: string): number {
  const value = answer[field];
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw odd(what, `has no size "${field}"`);
}

/** Where a field may be left out, and then is false. */
export function isSet(answer: Answer, field: string): boolean {
  return answer[field] === true;
}

export function odd(what: string, fault: string): ChainkeepError {
  return new ChainkeepError('HYPERVISOR_FAILED', `the answer to ${what} ${fault}`, {
    advice: 'is the socket that of the monitor (QMP), and the program behind it QEMU 7.2 or newer?',
  });
}
