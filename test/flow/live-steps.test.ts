// What a person at a terminal sees while a command works. The terminal is made by `script` of util-linux.

import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import { LAUNCHER, whenEnded } from '../cli/run-chainkeep.ts';
import { noise, type ScratchHome, scratchHome } from './scratch-home.ts';

/** Everything that a command writes to a terminal. */
async function onTerminal(user: ScratchHome, command: string): Promise<string> {
  const env = { ...process.env, CHAINKEEP_HOME: user.path('home'), NO_COLOR: '1' };
  const child = spawn('script', ['-qec', `${LAUNCHER} ${command}`, '/dev/null'], { cwd: user.folder, env, timeout: 60_000 });
  child.stdin.end();
  const { code, stdout } = await whenEnded(child);
  expect(code, stdout).toBe(0);
  return stripVTControlCharacters(stdout);
}

describe('on a terminal', () => {
  it('the steps of a backup, a verify and a restore are seen as they happen; elsewhere they are not', async () => {
    const user = scratchHome();
    writeFileSync(user.path('disk.img'), noise(1 << 20, 1));
    const backup = await onTerminal(user, 'backup disk.img --vm vm');
    for (const name of ['open the sources', 'disk 0: plan', 'disk 0: transfer and commit', 'disk 0: catalog']) {
      expect(backup).toContain(`${name} …`);
      expect(backup).toMatch(new RegExp(`^.*done {4}${name} {2}[0-9.]+ m?s\\r?$`, 'm'));
    }
    expect(await onTerminal(user, 'verify --vm vm')).toContain('done    repository default');
    expect(await onTerminal(user, 'restore latest out.img --vm vm')).toContain('done    ');
    expect(await onTerminal(user, 'verify --vm vm --quiet')).not.toContain('done');
    expect((await user.run('verify', '--vm', 'vm')).stderr).toBe('');
  });
});
