// `npm run bench:nbd [-- --data MIB --runs 5 --folder DIR --only library|program]`: how fast exports are served and read, beside qemu-nbd,
// nbdcopy and qemu-img with the same bytes.
// Goals: `nbdcopy --requests=64 EXPORT null:` at least as fast as from qemu-nbd; a backup over NBD at least as fast as qemu-img convert -W -m 8;
// serving goes on at 95 % of its rate beside other commands; memory of the server under 400 MiB with 16 clients.
// Nothing fails on time: it prints ratios of medians of one run, both sides by turns.

import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { benchLibrary } from './nbd-library.ts';
import { benchProgram } from './nbd-program.ts';

const { values } = parseArgs({
  options: {
    data: { type: 'string', default: '1500' },
    runs: { type: 'string', default: '5' },
    folder: { type: 'string', default: '/dev/shm' },
    only: { type: 'string' },
  },
});

const folder = mkdtempSync(join(values.folder, 'chainkeep-nbd-'));
try {
  for (const [name, bench] of [
    ['library', benchLibrary],
    ['program', benchProgram],
  ] as const)
    if (values.only === undefined || values.only === name) await bench(folder, Number(values.data), Number(values.runs));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
