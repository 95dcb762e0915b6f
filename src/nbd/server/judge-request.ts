// Which requests an export takes: its transmission flags, and the error for whatever does not fit them.
// It only judges; nothing is read or changed.

import { NBD_ERROR } from '../protocol/error-number.ts';
import { DEFAULT_MOST_PAYLOAD } from '../protocol/export-info.ts';
import { COMMAND, COMMAND_FLAG, type Request } from '../protocol/request.ts';
import { TRANSMISSION_FLAG } from '../protocol/transmission-flags.ts';
import type { Agreement } from './client-negotiation.ts';
import type { NbdExport } from './nbd-export.ts';

export function transmissionFlags({ changes }: NbdExport, headers: Agreement['headers']): number {
  const { HAS_FLAGS, READ_ONLY, SEND_DF, CAN_MULTI_CONN, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES } = TRANSMISSION_FLAG;
  // All connections share one disk, and its flush covers what any of them wrote.
  const always = HAS_FLAGS | CAN_MULTI_CONN | (headers === 'simple' ? 0 : SEND_DF);
  return always | (changes ? SEND_FLUSH | SEND_FUA | SEND_TRIM | SEND_WRITE_ZEROES : READ_ONLY);
}

/** Bytes that follow the head of a request. */
export function payloadLength({ command, flags, length }: Request, headers: Agreement['headers']): number {
  if (headers === 'extended') return (flags & COMMAND_FLAG.PAYLOAD_LEN) === 0 ? 0 : length;
  return command === COMMAND.WRITE ? length : 0;
}

/** 0 for a request that can be carried out, else the number of an error. */
export function judgeRequest(request: Request, { served, headers, contexts }: Agreement): number {
  const { command, flags, offset, length } = request;
  if ((flags & ~allowedFlags(command, headers)) !== 0) return NBD_ERROR.EINVAL;
  const beyond = !(offset + length <= served.disk.size);
  switch (command) {
    case COMMAND.READ:
      if (beyond) return NBD_ERROR.EINVAL;
      return length > DEFAULT_MOST_PAYLOAD ? NBD_ERROR.EOVERFLOW : 0;
    case COMMAND.WRITE:
      if (headers === 'extended' && (flags & COMMAND_FLAG.PAYLOAD_LEN) === 0) return NBD_ERROR.EINVAL;
      return judgeChange(served, beyond, NBD_ERROR.ENOSPC);
    case COMMAND.WRITE_ZEROES:
      return judgeChange(served, beyond, NBD_ERROR.ENOSPC);
    case COMMAND.TRIM:
      return judgeChange(served, beyond, NBD_ERROR.EINVAL);
    case COMMAND.FLUSH:
      return served.changes && offset === 0 && length === 0 ? 0 : NBD_ERROR.EINVAL;
    case COMMAND.BLOCK_STATUS:
      return beyond || length === 0 || contexts.length === 0 ? NBD_ERROR.EINVAL : 0;
    default:
      return NBD_ERROR.EINVAL;
  }
}

function judgeChange({ changes }: NbdExport, beyond: boolean, error: number): number {
  if (!changes) return NBD_ERROR.EPERM;
  return beyond ? error : 0;
}

function allowedFlags(command: number, headers: Agreement['headers']): number {
  switch (command) {
    case COMMAND.READ:
      return headers === 'simple' ? 0 : COMMAND_FLAG.DF;
    case COMMAND.WRITE:
      return COMMAND_FLAG.FUA | (headers === 'extended' ? COMMAND_FLAG.PAYLOAD_LEN : 0);
    case COMMAND.TRIM:
      return COMMAND_FLAG.FUA;
    case COMMAND.WRITE_ZEROES:
      return COMMAND_FLAG.FUA | COMMAND_FLAG.NO_HOLE;
    case COMMAND.BLOCK_STATUS:
      return COMMAND_FLAG.REQ_ONE;
    default:
      return 0;
  }
}
