// What to do about a step of the self-test that failed, where the error itself does not say it.
// It must not guess: what is not known gets the general word.

import { isChainkeepError } from '../plumbing/errors.ts';

const ADVICE: Readonly<Record<string, string>> = {
  reach: 'check the address, the network, and that the storage runs',
  authenticate: 'check the user or the key, and what it is allowed to do; change a secret with: chainkeep repo update NAME --secret key=…',
  write: 'check that this user or key may write here, and that there is room',
  'read back': 'do not keep backups here: what is written does not come back as it was',
  list: 'do not keep backups here: what cannot be listed cannot be found again',
  replace: 'do not keep backups here before this is understood',
  'create only': 'do not keep backups here: two writers could overwrite each other',
  delete: 'check that this user or key may delete; without it nothing can be thinned out',
  retention:
    'backups here are protected against mistakes, not against an administrator: use a file system with attributes, or a store that locks',
  clock: 'set both clocks by NTP: dates of protection and of expiry are compared with them, and the later one is waited for',
  capacity: 'make room, or use another repository',
  'clean up': 'remove the folder that begins with .chainkeep-test- yourself',
};

const DENIED_SYSTEM_CODES: readonly unknown[] = ['EACCES', 'EPERM'];
const DENIED_STATUS: readonly unknown[] = [401, 403];

export function adviceFor(step: string, error: unknown): string | null {
  return (isChainkeepError(error) ? error.advice : undefined) ?? ADVICE[step] ?? null;
}

/** The other side has answered, and does not let us in. */
export function isAccessDenied(error: unknown): boolean {
  if (!isChainkeepError(error)) return false;
  const { system_code: code, status } = error.context;
  return DENIED_SYSTEM_CODES.includes(code) || DENIED_STATUS.includes(status);
}
