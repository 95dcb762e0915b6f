// File servers that replace or delete nothing which somebody has open: what is refused for that is done again for a while.
// It must not be used for anything but giving a file another name and taking a name away: elsewhere the same answers mean other things.

import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../plumbing/clock.ts';
import { ChainkeepError, systemCode } from '../../plumbing/errors.ts';
import type { LocalRoot } from './local-root.ts';

const IN_USE: ReadonlySet<string | undefined> = new Set(['EBUSY', 'ETXTBSY']);
/** Milliseconds: readers of small files are done by then; who reads an image is not. */
const LIMIT_MS = 4000;
const LOOK_EVERY_MS = 40;

export function isInUse(root: LocalRoot, error: unknown): boolean {
  return IN_USE.has(systemCode(error)) || (root.deniesOpen && systemCode(error) === 'EACCES');
}

/** BLOB_IN_USE when the file stays open all the time. `path` is what is to be replaced or deleted. */
export async function onceFree(root: LocalRoot, path: string, work: () => Promise<void>): Promise<void> {
  for (const end = systemClock.monotonic() + LIMIT_MS; ; await sleep(LOOK_EVERY_MS)) {
    try {
      return await work();
    } catch (error) {
      if (!isInUse(root, error)) throw error;
      if (systemClock.monotonic() > end) throw inUseError(root, path, error);
    }
  }
}

function inUseError(root: LocalRoot, path: string, cause: unknown): ChainkeepError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new ChainkeepError('BLOB_IN_USE', `${path} is open somewhere, and its file server lets nobody replace or delete it: ${reason}`, {
    advice: root.deniesOpen
      ? 'what has it open: a restore, another machine, a virus scanner of the server? Or may this user not change files there?'
      : 'what has it open: a restore, another machine, a virus scanner of the server? try again when it is closed',
    retryable: true,
    cause,
    context: { path, place: root.path, system_code: systemCode(cause) },
  });
}
