// `npm run mutation -- ROOM [GLOB …]`: changes the code of a room in thousands of small ways and counts the changes that no test notices.
// Takes hours for a whole room. What survives is printed with its place; a survivor is a missing test, or a change that changes nothing.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOMS = ['qcow2', 'repository', 'transfer'];
const root = fileURLToPath(new URL('..', import.meta.url));
const tools = join(root, 'mutation');
const [room = '', ...globs] = process.argv.slice(2);

function run(command: string, args: readonly string[], cwd: string, env: NodeJS.ProcessEnv = process.env): void {
  const { status, error } = spawnSync(command, args, { cwd, env, stdio: 'inherit' });
  if (error) throw error;
  if (status !== 0) process.exit(status ?? 1);
}

if (!ROOMS.includes(room)) {
  console.error(`error: name a room: ${ROOMS.join(', ')}`);
  process.exit(2);
}
if (!existsSync(join(tools, 'node_modules'))) run('npm', ['ci', '--no-audit', '--no-fund'], tools);
const reports = join(root, 'coverage', 'mutation', room);
mkdirSync(reports, { recursive: true });
const config = {
  testRunner: 'vitest',
  plugins: [join(tools, 'node_modules/@stryker-mutator/vitest-runner/dist/src/index.js')],
  vitest: { configFile: join('mutation', 'vitest.config.ts'), related: true },
  // The list of exports has nothing to mutate; what runs in a thread of its own does not see which mutant is switched on.
  mutate: globs.length > 0 ? globs : [`src/${room}/**/*.ts`, '!src/qcow2/library.ts', '!src/transfer/worker.ts'],
  coverageAnalysis: 'perTest',
  ignoreStatic: true,
  reporters: ['clear-text', 'json', 'progress-append-only'],
  jsonReporter: { fileName: join(reports, 'report.json') },
  clearTextReporter: { allowColor: false, logTests: false, reportTests: false },
  tempDirName: '.mutation',
  ignorePatterns: ['coverage', 'docs', '.compiled', 'dist', 'mutation/node_modules'],
  // A mutant that never ends is killed by the clock; its tests take seconds.
  timeoutMS: 3000,
  timeoutFactor: 1.25,
  thresholds: { high: 90, low: 80, break: 80 },
};
const file = join(reports, 'stryker.config.json');
writeFileSync(file, JSON.stringify(config, null, 2));
run(join(tools, 'node_modules/.bin/stryker'), ['run', file], root, { ...process.env, CHAINKEEP_MUTATION_ROOM: room });
