// The error numbers of the protocol, which look like those of Linux and are a list of their own.

import { systemCode } from '../../plumbing/errors.ts';

export const NBD_ERROR = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;

export type NbdErrorName = keyof typeof NBD_ERROR;

const NAMES = new Map<number, NbdErrorName>([
  [NBD_ERROR.EPERM, 'EPERM'],
  [NBD_ERROR.EIO, 'EIO'],
  [NBD_ERROR.ENOMEM, 'ENOMEM'],
  [NBD_ERROR.EINVAL, 'EINVAL'],
  [NBD_ERROR.ENOSPC, 'ENOSPC'],
  [NBD_ERROR.EOVERFLOW, 'EOVERFLOW'],
  [NBD_ERROR.ENOTSUP, 'ENOTSUP'],
  [NBD_ERROR.ESHUTDOWN, 'ESHUTDOWN'],
]);

/** "The client SHOULD treat an unexpected error value as if it had been NBD_EINVAL." */
export function errorName(number: number): NbdErrorName {
  return NAMES.get(number) ?? 'EINVAL';
}

const BY_SYSTEM_CODE: Readonly<Record<string, number>> = {
  ENOSPC: NBD_ERROR.ENOSPC,
  EDQUOT: NBD_ERROR.ENOSPC,
  EFBIG: NBD_ERROR.ENOSPC,
  EPERM: NBD_ERROR.EPERM,
  EACCES: NBD_ERROR.EPERM,
  EROFS: NBD_ERROR.EPERM,
};

/** What a client is told of an error of the disk that is served, looked for down its causes; EIO where nothing fits better. */
export function errorNumberOf(error: unknown): number {
  for (let at = error; at instanceof Error; at = at.cause) {
    const number = BY_SYSTEM_CODE[systemCode(at) ?? ''];
    if (number !== undefined) return number;
    if (systemCode(at) === 'INSUFFICIENT_STORAGE') return NBD_ERROR.ENOSPC;
  }
  return NBD_ERROR.EIO;
}
