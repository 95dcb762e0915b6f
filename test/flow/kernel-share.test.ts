// A repository over NFS as the kernel has it, mount(8) and all, in a guest ('linux.uml', 'rpc.nfsd', 'mount.nfs'). What takes longer, and the other
// protocols, are in kernel-shares.long.test.ts.

import { expect, it } from 'vitest';
import { runInGuest, whyNoGuest } from '../servers/uml.ts';

const LIMIT_MS = 15 * 60_000;

it('NFS v4.2: the essentials', { timeout: LIMIT_MS + 60_000 }, async ({ skip }) => {
  const reason = whyNoGuest();
  if (reason) return skip(reason);
  const { passed, failed } = await runInGuest({ shares: ['nfs'], tests: ['test/uml/nfs4-essentials.inside.ts'], limitMs: LIMIT_MS });
  expect(failed).toEqual([]);
  expect(passed.length).toBe(1);
});
