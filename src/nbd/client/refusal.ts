// What a user is told when the server refuses an option that is needed.

import { ChainkeepError } from '../../plumbing/errors.ts';
import { optionName } from '../protocol/option.ts';
import { REPLY, replyName } from '../protocol/option-reply.ts';

/** `address`: as it may be shown. The text that came with the refusal is not repeated: it is the server's, and may hold anything. */
export function refusedBy(address: string, option: number, kind: number): ChainkeepError {
  const context = { address, option: optionName(option), reply: replyName(kind) };
  switch (kind) {
    case REPLY.ERR_UNKNOWN:
      return new ChainkeepError('EXPORT_NOT_FOUND', `the NBD server has no export ${address}`, {
        advice: 'check its name; it ends with the job that opened it',
        context,
      });
    case REPLY.ERR_TLS_REQD:
      return new ChainkeepError('EXPORT_REFUSED', `the NBD server gives ${address} only over TLS`, {
        advice: 'write nbds instead of nbd, with tls-certificates or tls-psk-file',
        context,
      });
    case REPLY.ERR_SHUTDOWN:
      return new ChainkeepError('CONNECTION_FAILED', `the NBD server of ${address} is shutting down`, {
        advice: 'try again when it is back',
        retryable: true,
        context,
      });
    default:
      return new ChainkeepError('EXPORT_REFUSED', `the NBD server refuses ${context.option} for ${address} (${context.reply})`, {
        advice: 'look at the settings and the log of the server',
        context,
      });
  }
}

/** There is no way back from `nbds` to a connection that everybody can read and change (CVE-2019-14842). */
export function tlsRefused(address: string, kind: number): ChainkeepError {
  return new ChainkeepError('EXPORT_REFUSED', `the NBD server of ${address} offers no TLS (${replyName(kind)}), so nothing was sent`, {
    advice: 'set up TLS on the server; write nbd only if nobody else can reach the network between both',
    context: { address, reply: replyName(kind) },
  });
}
