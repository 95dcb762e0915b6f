// `npm run bench`: every figure the project promises, measured here and now against the tools it is compared with.
// Options: --size 8G --files 2600M --runs 5 --tmpfs DIR --disk DIR --only NAME[,NAME] --steady 9G (steady-memory.ts says what for).
// Nothing fails on time: it prints ratios.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { makeDisk } from './disk.ts';
import { works } from './works.ts';

const { values } = parseArgs({
  options: {
    size: { type: 'string', default: '8G' },
    files: { type: 'string', default: '2600M' },
    runs: { type: 'string', default: '5' },
    tmpfs: { type: 'string', default: '/dev/shm' },
    disk: { type: 'string', default: '/var/tmp' },
    only: { type: 'string' },
    steady: { type: 'string' },
  },
});

function bytesOf(text: string): number {
  const match = /^(\d+)([KMGT]?)$/i.exec(text);
  if (!match) throw new Error(`not a size: ${text}`);
  return Number(match[1]) * 1024 ** ['', 'K', 'M', 'G', 'T'].indexOf((match[2] ?? '').toUpperCase());
}

/** Ends with this process. */
async function steadyMemory(bytes: number): Promise<void> {
  const script = fileURLToPath(new URL('./steady-memory.ts', import.meta.url));
  const child = spawn(process.execPath, [script, String(bytes)], { stdio: ['ignore', 'pipe', 'inherit'] });
  process.on('exit', () => child.kill('SIGKILL'));
  const ended = once(child, 'exit').then(() => Promise.reject(new Error('no steady memory')));
  await Promise.race([once(child.stdout, 'data'), ended]);
  ended.catch(() => undefined);
  child.unref();
  child.stdout.destroy();
}

const tmpfs = mkdtempSync(join(values.tmpfs, 'chainkeep-bench-'));
const disk = mkdtempSync(join(values.disk, 'chainkeep-bench-'));
const only = values.only?.split(',');
try {
  const source = join(tmpfs, 'disk.raw');
  mkdirSync(join(disk, 'scratch'));
  if (values.steady !== undefined) await steadyMemory(bytesOf(values.steady));
  console.log(`making a disk of ${values.size} with about ${values.files} of files …`);
  makeDisk(source, bytesOf(values.size), bytesOf(values.files));
  for (const work of works({ source, tmpfs, disk, runs: Number(values.runs) })) {
    if (only && !only.includes(work.name)) continue;
    console.log(`\n${work.name}: ${work.goal}`);
    for (const line of await work.run()) console.log(`  ${line}`);
  }
} finally {
  rmSync(tmpfs, { recursive: true, force: true });
  rmSync(disk, { recursive: true, force: true });
}
