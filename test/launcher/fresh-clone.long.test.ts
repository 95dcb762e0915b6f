// The launcher on a fresh clone, with the node and npm of this machine and the network: long, so only in `npm run test:all`.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { cloneInto, makeFolder, run, SYSTEM_PATH } from './small-clone.ts';

const INSTALL_LIMIT = 240_000;
const VERSION = /^\d+\.\d+\.\d+\n$/;
const scratch = makeFolder();
afterAll(scratch.remove);

let clone = cloneInto(scratch.path);
const start = () => run(join(clone, 'chainkeep'), ['--version'], { path: SYSTEM_PATH, timeout: INSTALL_LIMIT });
const stamp = () => join(clone, 'node_modules/.chainkeep-node');

describe('a fresh clone', { timeout: INSTALL_LIMIT }, () => {
  it('installs itself once, also when it is started twice at once, over the lock of a dead installation', async () => {
    mkdirSync(join(clone, '.install-lock'));
    writeFileSync(join(clone, '.install-lock/owner'), `4194305@${hostname()}\n`); // above the highest possible process id
    const results = await Promise.all([start(), start(), start()]);
    for (const result of results) expect(result).toMatchObject({ code: 0, stdout: expect.stringMatching(VERSION) });
    const words = results.map((result) => result.stderr).join('');
    expect(words.match(/installing what the program needs/g)).toHaveLength(1);
    expect(existsSync(join(clone, '.install-lock'))).toBe(false);
    expect(execFileSync('git', ['-C', clone, 'diff', '--stat'], { encoding: 'utf8' })).toBe('');
  });

  it('holds what the program needs and nothing for developers', () => {
    expect(existsSync(join(clone, 'node_modules/better-sqlite3'))).toBe(true);
    expect(existsSync(join(clone, 'node_modules/vitest'))).toBe(false);
  });

  it('is silent afterwards', async () => {
    expect(await start()).toMatchObject({ code: 0, stdout: expect.stringMatching(VERSION), stderr: '' });
  });

  it('does not install again when only the time of the lock file changed', async () => {
    const before = statSync(join(clone, 'node_modules/.package-lock.json')).mtimeMs;
    const later = new Date(Date.now() + 60_000);
    utimesSync(join(clone, 'package-lock.json'), later, later);
    expect(await start()).toMatchObject({ code: 0, stderr: '' });
    expect(statSync(join(clone, 'node_modules/.package-lock.json')).mtimeMs).toBe(before);
    utimesSync(join(clone, 'package-lock.json'), new Date(0), new Date(0));
  });

  it('may be moved', async () => {
    const moved = join(scratch.path, 'moved');
    renameSync(clone, moved);
    clone = moved;
    expect(await start()).toMatchObject({ code: 0, stdout: expect.stringMatching(VERSION), stderr: '' });
  });

  it('works where it cannot be written to, with a stamp and without', async (context) => {
    const script = `mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$0/chainkeep" --version`;
    const readOnly = () => run('unshare', ['-m', 'sh', '-c', script, clone], { path: `${SYSTEM_PATH}:/usr/sbin:/sbin` });
    const first = await readOnly();
    if (first.stderr.includes('unshare') || first.stderr.includes('mount')) context.skip('no mount namespaces here');
    expect(first).toMatchObject({ code: 0, stdout: expect.stringMatching(VERSION), stderr: '' });
    const words = readFileSync(stamp(), 'utf8');
    rmSync(stamp());
    expect(await readOnly()).toMatchObject({ code: 0, stdout: expect.stringMatching(VERSION), stderr: '' });
    writeFileSync(stamp(), words);
  });

  it('repairs an installation that lost a package', async () => {
    rmSync(join(clone, 'node_modules/commander'), { recursive: true });
    rmSync(stamp());
    const result = await start();
    expect(result).toMatchObject({ code: 0, stdout: expect.stringMatching(VERSION) });
    expect(result.stderr).toContain('installing what the program needs');
  });
});
