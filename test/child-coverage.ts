// Loaded before each test file when coverage is measured: what a test starts (the program, worker threads) writes its own coverage,
// which vitest does not see; scripts/check-coverage.ts adds both up.

import { chmodSync, mkdirSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import { expect } from 'vitest';

/**
 * A program that is measured takes longer, for code from the compile cache would be measured less exactly. So only those files are measured whose
 * programs run what no other test runs.
 */
const ROOMS = /^(cli|control|jobs|launcher|transfer|source|nbd)\//;
const FLOWS = new RegExp(
  `^flow/(${[
    ...['main-flow', 'repository-place', 'rescan', 'database[a-z-]*', 'jobs', 'recovered', 'immutability', 'restore-targets', 'sources'],
    ...['export', 'writable-export', 'receive', 'changed-extents', 'bitmaps', 'running-machine', 'running-machine-faults', 'libvirt'],
  ].join('|')})\\.`,
);

const file = relative(resolve('test'), expect.getState().testPath ?? '');
if (ROOMS.test(file) || FLOWS.test(file)) {
  const children = resolve('coverage/children');
  // Programs of other users write there as well.
  mkdirSync(children, { recursive: true });
  chmodSync(children, 0o777);
  process.env.NODE_V8_COVERAGE = children;
  process.env.NODE_DISABLE_COMPILE_CACHE = '1';
  process.env.NODE_OPTIONS = `${process.env.NODE_OPTIONS ?? ''} --import=${resolve('test/strip-once.mjs')}`;
}
