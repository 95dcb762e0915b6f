// The conformance suite over a share of the guest, mounted by Chainkeep. Runs inside of user-mode-linux only.

import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { BlobStore } from '../../src/store/blob-store.ts';
import { openStore } from '../../src/store/registry.ts';
import { storeConformance } from '../../src/store/testing/conformance.ts';
import { aroundStore } from '../../src/store/wrap/around-store.ts';
import { mountedAt, type Share } from './share.ts';

export function conformanceOf(name: string, share: Share): void {
  const home = mkdtempSync(join(tmpdir(), 'home-'));
  const config = { ...share.config, time_limit_seconds: 60 };
  let store: BlobStore;
  let mountPoint: string;

  beforeAll(async () => {
    store = await openStore(share.type, config, { create: true, home });
    [mountPoint = ''] = mountedAt(share.source);
  });
  afterAll(async () => {
    await store.close();
    expect(mountedAt(share.source)).toEqual([]);
    rmSync(home, { recursive: true });
  });

  storeConformance(name, async () => ({
    // For all tests, and emptied between them: opening a share starts a process.
    store: aroundStore(store, { around: (_call, act) => act(), close: async () => undefined }),
    elsewhere: { type: share.type, config: { ...config, mount_point: mountPoint } },
    many: 300,
    ...(share.type === 'cifs' && { refusesOpen: 'replace' }),
    dispose: async () => {
      for (const entry of readdirSync(mountPoint)) rmSync(join(mountPoint, entry), { recursive: true, force: true });
    },
  }));

  it('is mounted below the home', () => {
    expect(mountPoint.startsWith(join(home, 'mounts/'))).toBe(true);
  });
}
