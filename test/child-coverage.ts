// Loaded before each test file when coverage is measured: what a test starts (the program, worker threads) writes its own coverage,
// which vitest does not see; scripts/check-coverage.ts adds both up.

import { resolve } from 'node:path';

process.env.NODE_V8_COVERAGE = resolve('coverage/children');
process.env.NODE_DISABLE_COMPILE_CACHE = '1'; // code from the cache is measured less exactly
