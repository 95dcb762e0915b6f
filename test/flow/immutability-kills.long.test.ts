// A backup in an immutable repository, killed at each call that makes something durable or protects it: a look later everything is locked, or not there.
// Uses 'strace' and 'mkfs.ext4'.

import { globSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ProtectOutcome, VerifyOutcome } from '../../src/app-interface.ts';
import { mountExt4, type TemporaryMount } from '../store/temporary-mount.ts';
import { qemuIo, scratchHome, tool } from './scratch-home.ts';

const FILE = `/dev/shm/chainkeep-ext4-kills-${process.pid}`;
let mount: TemporaryMount | string = 'not tried';

beforeAll(() => {
  mount = mountExt4(FILE, 256 * 2 ** 20);
});
afterAll(() => {
  if (typeof mount !== 'string') mount.dispose();
  rmSync(FILE, { force: true });
});

describe('a backup in an immutable repository', { timeout: 900_000 }, () => {
  it.each(['link', 'fsync', 'fchmod'])('killed at each %s', async (call) => {
    if (typeof mount === 'string') throw new Error(mount);
    const home = scratchHome();
    const place = join(mount.path, call);
    const disk = home.path('disk.raw');
    tool('truncate', '-s', '8M', disk);
    const lock = ['--set', 'immutable_config.type=linux_chattr', '--set', 'immutable_config.min_retention_days=7'];
    await home.json('repo', 'add', 'vault', '--path', place, ...lock);
    await home.backup(disk, 'web', '--repo', 'vault');
    let kills = 0;
    for (let nth = 1, ended = false; !ended; nth += 1) {
      qemuIo(disk, 'raw', `write -P ${nth % 250} ${nth % 8}M 64k`);
      const inject = ['-f', '-qq', '-o', '/dev/null', '-e', `trace=${call}`, '-e', `inject=${call}:signal=KILL:when=${nth}`];
      const options = [...inject, '-E', 'UV_THREADPOOL_SIZE=1'];
      const run = await home.traced(options, ['backup', disk, '--vm', 'web', '--repo', 'vault', '--json']);
      ended = run.code === 0;
      kills += ended ? 0 : 1;
      const swept = await home.json<ProtectOutcome>('repo', 'protect', 'vault');
      expect(swept).toMatchObject({ failures: [], restored: [] });
      expect(await home.json<ProtectOutcome>('repo', 'protect', 'vault')).toMatchObject({ locked: 0, protected: 0, released: 0 });
      expectLocked(place);
      expect(await home.json<VerifyOutcome>('verify', '--repo', 'vault', '--quick')).toMatchObject({ damaged: [] });
    }
    expect(kills).toBeGreaterThan(2);
  });
});

/** By the files alone: every committed backup has one date, what it needs a date that is not earlier, and each of its files the attribute. */
function expectLocked(place: string): void {
  const [folder = ''] = globSync(`${place}/vms/*/disk-0`);
  const files = readdirSync(folder);
  const immutable = new Set(
    tool('lsattr', folder)
      .split('\n')
      .filter((line) => /^\S*i\S* /.test(line))
      .map((line) => basename(line)),
  );
  expect(files.filter((name) => !immutable.has(name))).toEqual([]);
  const sidecars = files
    .filter((name) => /^[0-9a-z-]+\.json$/.test(name))
    .map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')));
  const dateOf = (id: string): string => {
    const dates = files.filter((name) => name.startsWith(`${id}.lock.`)).map((name) => name.slice(id.length + 6));
    expect(dates.length, id).toBe(1);
    return dates[0] ?? '';
  };
  expect(files.length).toBe(4 * sidecars.length);
  for (const { backup_id: id, parent_backup_id: parent } of sidecars) if (parent !== null) expect(dateOf(parent) >= dateOf(id)).toBe(true);
}
