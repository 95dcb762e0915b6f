// How tests run inside of a user-mode-linux guest; see test/servers/uml.ts.

import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: { include: ['test/uml/*.inside.ts'], pool: 'threads', maxWorkers: 1, isolate: false, testTimeout: 600_000, hookTimeout: 120_000 },
});
