// The error for a peer that breaks the rules of the protocol. It ends the connection it was found on: nothing behind it can be trusted.
// Must not quote what the peer sent beyond numbers: names and messages of a stranger do not belong into logs unseen.

import { ChainkeepError, type ErrorContext } from '../../plumbing/errors.ts';

export function protocolBreach(what: string, context: ErrorContext = {}): ChainkeepError {
  return new ChainkeepError('NBD_PROTOCOL', `the other side breaks the NBD protocol: ${what}`, {
    advice: 'nothing that it sent was used; is it an NBD server, and is it up to date?',
    context,
  });
}

/** For messages: how numbers of the wire are written in the specification. */
export function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
