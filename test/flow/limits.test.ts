// Limits of a repository, as a user sets them: kept, shown, changed while a backup runs.

import { globSync, statSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { noise, type ScratchHome, scratchHome } from './scratch-home.ts';

const MIB = 1 << 20;
const RATE = 2 * MIB;

/** Bytes of the images that are being written. */
function writtenBytes(user: ScratchHome): number {
  return globSync('**/*.qcow2.tmp-*', { cwd: user.folder }).reduce((sum, name) => sum + statSync(user.path(name)).size, 0);
}

describe('limits', () => {
  it('a running backup keeps the one that is set, and follows a new one within seconds', async () => {
    const user = scratchHome();
    const disk = user.path('disk.img');
    const size = 80 * MIB;
    writeFileSync(disk, noise(size, 1));
    await user.json('repo', 'add', 'slow', '--path', user.path('slow'), '--set', 'limits.upload_bytes_per_second=2M');
    const run = user.start('backup', disk, '--vm', 'vm', '--compression', 'none', '--json');
    await user.appears('**/*.qcow2.tmp-*');
    while (writtenBytes(user) < MIB) await sleep(20);
    const began = performance.now();
    const before = writtenBytes(user);
    await sleep(3000);
    const grown = writtenBytes(user) - before;
    const seconds = (performance.now() - began) / 1000;
    // At most one piece (1 MiB) more than the rate; at least something, on however slow a machine.
    expect(grown).toBeLessThan(RATE * seconds * 1.2 + 2 * MIB);
    expect(grown).toBeGreaterThan(0);
    await user.json('repo', 'update', 'slow', '--unset', 'limits.upload_bytes_per_second');
    const left = (size - writtenBytes(user)) / RATE;
    const changed = performance.now();
    const ended = await run.ended;
    expect(ended.code, ended.stderr).toBe(0);
    // By the old limit it would have taken the better part of a minute.
    expect((performance.now() - changed) / 1000).toBeLessThan(left * 0.8);
    await user.expectRestores(JSON.parse(ended.stdout).backup_id, disk);
  });

  it('are shown, changed in parts, set while the repository is away, and refused when they are wrong', async () => {
    const user = scratchHome();
    await user.json('repo', 'add', 'safe', '--path', user.path('safe'));
    const set = (...settings: readonly string[]) => user.json('repo', 'update', 'safe', ...settings.flatMap((one) => ['--set', one]));
    await set('limits.upload_bytes_per_second=10M', 'limits.concurrent_operations=4');
    await set('limits.download_bytes_per_second=5000000');
    const limits = { upload_bytes_per_second: 10 * MIB, download_bytes_per_second: 5_000_000, concurrent_operations: 4 };
    expect(await user.json('repo', 'show', 'safe')).toMatchObject({ config: { limits } });
    const shown = (await user.run('repo', 'show', 'safe')).stdout;
    expect(shown).toMatch(/^upload limit +10\.0 MiB\/s$/m);
    expect(shown).toMatch(/^operations at once +4$/m);
    const { renameSync } = await import('node:fs');
    renameSync(user.path('safe'), user.path('away'));
    await user.json('repo', 'update', 'safe', '--unset', 'limits.download_bytes_per_second', '--unset', 'limits.concurrent_operations');
    await user.refused('REPOSITORY_OFFLINE', 'repo', 'update', 'safe', '--path', user.path('elsewhere'));
    renameSync(user.path('away'), user.path('safe'));
    expect((await user.json<{ config: unknown }>('repo', 'show', 'safe')).config).toEqual({
      path: user.path('safe'),
      limits: { upload_bytes_per_second: 10 * MIB },
    });
    await user.json('repo', 'update', 'safe', '--unset', 'limits');
    expect((await user.json<{ config: unknown }>('repo', 'show', 'safe')).config).toEqual({ path: user.path('safe') });
    for (const wrong of ['limits.upload_bytes_per_second=fast', 'limits.speed=1M', 'limits.concurrent_operations=0', 'limits=none']) {
      const refused = await user.refused('CONFIG_INVALID', 'repo', 'update', 'safe', '--set', wrong);
      expect(refused.error).toContain('limits');
    }
  });

  it('a log of every call to the store is kept where it is asked for', async () => {
    const user = scratchHome();
    writeFileSync(user.path('disk.img'), noise(MIB, 1));
    await user.json('repo', 'add', 'safe', '--path', user.path('safe'), '--set', 'log_operations=true');
    const { job_id: job } = await user.backup(user.path('disk.img'), 'vm');
    const lines = (await user.jobLog(job)).filter(({ message }) => message.startsWith('store: '));
    expect(lines.map(({ level }) => level)).toEqual(lines.map(() => 'debug'));
    expect(lines.some(({ message }) => /^store: finish vms\/.*\.json$/.test(message))).toBe(true);
    await user.json('repo', 'update', 'safe', '--set', 'log_operations=false');
    const quiet = await user.backup(user.path('disk.img'), 'vm');
    expect((await user.jobLog(quiet.job_id)).filter(({ level }) => level === 'debug')).toEqual([]);
  });
});
