// The conformance suite over file systems of their own behind loop devices ('mkfs.ext4', 'mkfs.xfs'), as disks have them.

import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { openLocalStore } from '../../src/store/local/local-store.ts';
import { storeConformance } from '../../src/store/testing/conformance.ts';
import { mountExt4, mountXfs, type TemporaryMount } from './temporary-mount.ts';

const MIB = 1024 * 1024;
const folder = mkdtempSync(join(tmpdir(), 'chainkeep-loop-'));
const mounts = new Map<string, TemporaryMount>();
afterAll(() => {
  for (const mount of mounts.values()) mount.dispose();
  rmSync(folder, { recursive: true });
});

function overMount(name: string, make: (file: string) => TemporaryMount | string): void {
  beforeAll(() => {
    const mount = make(join(folder, name));
    if (typeof mount === 'string') throw new Error(mount); // root on Linux can; others have no use for this file
    mounts.set(name, mount);
  });
  storeConformance(`local on ${name}`, async () => {
    const path = mounts.get(name)?.path ?? '';
    return {
      store: await openLocalStore(path, { create: false }),
      elsewhere: { type: 'local', config: { path } },
      dispose: async () => clear(path),
    };
  });
}

/** Also what is marked as protected; `lost+found` is part of an ext4. */
async function clear(path: string): Promise<void> {
  const store = await openLocalStore(path, { create: false });
  for await (const { name } of store.list('')) await store.release(name);
  for (const entry of readdirSync(path)) if (entry !== 'lost+found') rmSync(join(path, entry), { recursive: true, force: true });
}

overMount('ext4', (file) => mountExt4(file, 256 * MIB));
overMount('xfs', (file) => mountXfs(file, 400 * MIB));
