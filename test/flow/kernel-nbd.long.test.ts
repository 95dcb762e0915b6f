// Exports as the kernel takes them: 'nbd-client' makes a device of one, in a guest ('linux.uml'), and a file system on it is mounted.

import { expect, it } from 'vitest';
import { runInGuest, whyNoGuest } from '../servers/uml.ts';

const LIMIT_MS = 15 * 60_000;

it('an export is a device of the kernel', { timeout: LIMIT_MS + 60_000 }, async ({ skip }) => {
  const reason = whyNoGuest();
  if (reason) return skip(reason);
  const { passed, failed, log } = await runInGuest({ shares: [], tests: ['test/uml/nbd-mount.inside.ts'], limitMs: LIMIT_MS });
  expect(failed, log.slice(-2000)).toEqual([]);
  expect(passed.length).toBe(2);
});
