// A limit that is set for a backup whose threads have their descriptors already: they get their work more slowly from then on.

import { globSync, statSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { noise, type ScratchHome, scratchHome } from './scratch-home.ts';

const MIB = 1 << 20;
/** A mebibyte in 40 ms for each thread: some 50 MiB a second, where nothing limits it. */
const SLOW = 'pread64:delay_enter=40000';

function writtenBytes(user: ScratchHome): number {
  return globSync('**/*.qcow2.tmp-*', { cwd: user.folder }).reduce((sum, name) => sum + statSync(user.path(name)).size, 0);
}

it('a running backup that had no limit keeps the one that it is given', async () => {
  const user = scratchHome();
  const disk = user.path('disk.img');
  const size = 400 * MIB;
  writeFileSync(disk, noise(size, 1));
  await user.json('repo', 'add', 'fast', '--path', user.path('fast'));
  const run = user.startWithFault(SLOW, disk, 'backup', disk, '--vm', 'vm', '--compression', 'none');
  await user.appears('**/*.qcow2.tmp-*');
  while (writtenBytes(user) < 16 * MIB) await sleep(20);
  await user.json('repo', 'update', 'fast', '--set', 'limits.upload_bytes_per_second=2M');
  // The look of two seconds, and what the threads had been given before it.
  await sleep(4000);
  const before = writtenBytes(user);
  const began = performance.now();
  await sleep(10_000);
  const grown = writtenBytes(user) - before;
  const seconds = (performance.now() - began) / 1000;
  expect(before).toBeLessThan(size);
  // An order of some mebibytes for each thread may fall into the time or not.
  expect(grown).toBeLessThan(2 * MIB * seconds * 1.2 + 16 * MIB);
  await user.json('repo', 'update', 'fast', '--unset', 'limits');
  const ended = await run.ended;
  expect(ended.code, ended.stderr).toBe(0);
  const [backup] = await user.list();
  await user.expectRestores(backup?.backup_id ?? '', disk);
}, 300_000);
