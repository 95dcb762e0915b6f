// NFS v3, NFS v4.2 and SMB 3.1.1 as the kernel has them, in a guest ('linux.uml', 'rpc.nfsd', 'mount.nfs', 'smbd', 'mount.cifs'): the conformance suite
// and whole flows, with servers that stop answering and shares that are replaced.

import { expect, it } from 'vitest';
import { runInGuest, whyNoGuest } from '../servers/uml.ts';

const LIMIT_MS = 30 * 60_000;
/** Tests that every share has: fewer would mean that some were not even found. */
const LEAST = 50;

it.each([
  ['NFS v3', 'nfs', 'nfs3'],
  ['NFS v4.2', 'nfs', 'nfs4'],
  ['SMB 3.1.1', 'smb', 'smb'],
] as const)('%s', { timeout: LIMIT_MS + 60_000 }, async (_name, server, file) => {
  const reason = whyNoGuest();
  expect(reason).toBeUndefined();
  const { passed, failed } = await runInGuest({ shares: [server], tests: [`test/uml/${file}.inside.ts`], limitMs: LIMIT_MS });
  expect(failed).toEqual([]);
  expect(passed.length).toBeGreaterThanOrEqual(LEAST);
});
