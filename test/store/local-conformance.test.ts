// The conformance suite over local stores: on the default file system, on tmpfs, and through a wrapper that hides descriptors.

import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { openLocalStore } from '../../src/store/local/local-store.ts';
import { type StoreUnderTest, storeConformance } from '../../src/store/testing/conformance.ts';
import { faultyStore } from '../../src/store/testing/faulty-store.ts';

async function makeLocal(parent: string): Promise<StoreUnderTest> {
  const path = await mkdtemp(join(parent, 'chainkeep-store-'));
  const store = await openLocalStore(path, { create: false });
  return {
    store,
    elsewhere: { type: 'local', config: { path } },
    putForeign: async (name) => {
      const file = join(path, name);
      await mkdir(name.endsWith('/') ? file : dirname(file), { recursive: true });
      if (!name.endsWith('/')) await writeFile(file, 'theirs');
    },
    dispose: async () => {
      for await (const { name } of store.list('')) if (!name.includes(' ')) await store.release(name);
      await rm(path, { recursive: true });
    },
  };
}

storeConformance('local', () => makeLocal(tmpdir()));
storeConformance('local on tmpfs', () => makeLocal('/dev/shm'));
storeConformance('local behind a wrapper without faults', async () => {
  const { store, dispose } = await makeLocal('/dev/shm');
  return { store: faultyStore(store, { failAt: Number.POSITIVE_INFINITY }).store, dispose };
});
