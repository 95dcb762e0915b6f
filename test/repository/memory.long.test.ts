// Memory is bounded by configuration, never by the size of a disk: 16 TiB with scattered data, each piece of work in a process of its own.

import { execFile } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import type { LargeDiskReport } from './large-disk-process.ts';
import { scratchFolder } from './scratch-folder.ts';

const scratch = scratchFolder();
const PROCESS = fileURLToPath(new URL('./large-disk-process.ts', import.meta.url));
/** More of them by hand, with room for twice 128 KiB each. */
const EXTENTS = Number(process.env.CHAINKEEP_EXTENTS ?? 20_000);
const MOST_MEBIBYTES = 400;

it(`a disk of 16 TiB with ${EXTENTS} scattered extents takes less than ${MOST_MEBIBYTES} MiB`, async () => {
  const folder = scratch('large');
  mkdirSync(folder);
  const used: string[] = [];
  const run = async (work: string): Promise<LargeDiskReport> => {
    const { stdout } = await promisify(execFile)(process.execPath, [PROCESS, folder, String(EXTENTS), work], { timeout: 300_000 });
    const report: LargeDiskReport = JSON.parse(stdout);
    expect(report.mebibytes, work).toBeLessThan(MOST_MEBIBYTES);
    used.push(`${work} ${Math.round(report.mebibytes)} MiB`);
    return report;
  };
  await run('make');
  expect(await run('backup')).toMatchObject({ clusters: EXTENTS });
  await run('change');
  expect(await run('backup')).toMatchObject({ clusters: Math.ceil(EXTENTS / 100) });
  const { restored } = await run('restore');
  expect(restored?.size).toBe(16 * 2 ** 40);
  expect(restored?.bytes).toBeLessThanOrEqual(EXTENTS * 65_536);
  expect(await run('verify')).toMatchObject({ damage: 0 });
  process.stdout.write(`${EXTENTS} extents: ${used.join(', ')}\n`);
}, 900_000);
