import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openStore } from '../../src/store/registry.ts';
import { storeConformance } from '../../src/store/testing/conformance.ts';
import { mountTmpfs } from './temporary-mount.ts';

storeConformance('mounted tmpfs', async () => {
  const mount = mountTmpfs('size=256m');
  if (typeof mount === 'string') throw new Error(mount);
  const config = { server: 'x', export_path: '/', mount_point: mount.path, system_mount: 'tmpfs chainkeep-test' };
  return {
    store: await openStore('nfs', config, { create: false }),
    elsewhere: { type: 'nfs', config },
    dispose: async () => mount.dispose(),
  };
});
