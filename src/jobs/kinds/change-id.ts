// What a change id, or the name of a bitmap, may be: what the catalog can hold, for a backup must not be committed and then refused there.

import { ChainkeepError } from '../../plumbing/errors.ts';

const LONGEST = 191;

/** Throws CONFIG_INVALID. */
export function checkChangeId(id: string): void {
  const length = Array.from(id).length;
  if (length >= 1 && length <= LONGEST && !id.includes('\0')) return;
  throw new ChainkeepError('CONFIG_INVALID', `a change id, or the name of a bitmap, has from 1 to ${LONGEST} characters and no NUL`, {
    advice: 'give the mark as its source gives it, or none',
  });
}
