// The conformance suite over a real SMB server ('smbd'), on a share that is mounted already ('smbnetfs'), through the process of a repository.

import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { BlobStore } from '../../src/store/blob-store.ts';
import { openStore } from '../../src/store/registry.ts';
import { storeConformance } from '../../src/store/testing/conformance.ts';
import { aroundStore } from '../../src/store/wrap/around-store.ts';
import { mountSmbnetfs, type Smbd, startSmbd } from '../servers/smbd.ts';

const folder = mkdtempSync(join(tmpdir(), 'chainkeep-smb-'));
const undo: (() => Promise<void> | void)[] = [() => rmSync(folder, { recursive: true })];
let server: Smbd;
let store: BlobStore;
let config: Readonly<Record<string, string>>;

beforeAll(async () => {
  server = await startSmbd(folder);
  undo.push(server.stop);
  const mount = await mountSmbnetfs(folder, server);
  undo.push(mount.stop);
  // The user is asked for by the schema; smbnetfs has logged in already.
  const user = { username: 'any', password: 'any' };
  const source = `smbnetfs/${server.address}/bk`;
  config = { ...user, server: server.address, share_name: 'bk', mount_point: mount.path, system_mount: `fuse.smbnetfs ${source}` };
  store = await openStore('smb', config, { create: false });
  undo.push(() => store.close());
});
afterAll(async () => {
  for (const step of undo.toReversed()) await step();
});

storeConformance('smb on smbnetfs', async () => ({
  // For all tests, and emptied between them: opening a share starts a process.
  store: aroundStore(store, { around: (_call, act) => act(), close: async () => undefined }),
  elsewhere: { type: 'smb', config },
  refusesOpen: 'replace and delete',
  many: 300,
  dispose: async () => {
    for (const name of readdirSync(server.share)) rmSync(join(server.share, name), { recursive: true });
  },
}));

it('says what such a share cannot do', () => {
  expect(store.capabilities).toMatchObject({ createOnly: false, atomicReplace: false, retention: 'none', capacity: false });
  expect(store.place).toBe(`//${server.address}/bk`);
});
