import { mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { cloneInto, makeFolder, makeProgram, pathOf, run, SYSTEM_PATH } from './small-clone.ts';

const LAUNCHER = resolve('chainkeep');
const VERSION = /^\d+\.\d+\.\d+\n$/;
const scratch = makeFolder();
afterAll(scratch.remove);

describe('the launcher', () => {
  it('works from any folder, by any path', async () => {
    const there = { cwd: scratch.path, path: SYSTEM_PATH };
    expect(await run(LAUNCHER, ['--version'], there)).toMatchObject({ code: 0, stdout: expect.stringMatching(VERSION), stderr: '' });
    expect(await run(relative(scratch.path, LAUNCHER), ['--version'], there)).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(VERSION),
    });
    expect(await run('sh', ['chainkeep', '--version'], { path: SYSTEM_PATH })).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(VERSION),
    });
    const byName = await run('chainkeep', ['--version'], { cwd: scratch.path, path: `${dirname(LAUNCHER)}:${SYSTEM_PATH}` });
    expect(byName).toMatchObject({ code: 0, stdout: expect.stringMatching(VERSION) });
  });

  it('works through symbolic links, absolute, relative and of each other, and in a folder with blanks', async () => {
    const folder = join(scratch.path, 'with blanks');
    mkdirSync(folder);
    symlinkSync(LAUNCHER, join(folder, 'absolute'));
    symlinkSync(relative(folder, LAUNCHER), join(folder, 'relative'));
    symlinkSync('relative', join(folder, 'twice'));
    symlinkSync(dirname(LAUNCHER), join(folder, 'the clone'));
    for (const link of ['absolute', 'relative', 'twice', 'the clone/chainkeep']) {
      const result = await run(join(folder, link), ['--version'], { path: SYSTEM_PATH });
      expect(result, link).toMatchObject({ code: 0, stdout: expect.stringMatching(VERSION), stderr: '' });
    }
    expect(await run('./twice', ['--version'], { cwd: folder, path: SYSTEM_PATH })).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(VERSION),
    });
  });

  it('starts no process of its own once everything is installed', async () => {
    const { code, stderr } = await run('strace', ['-f', '-e', 'trace=clone,clone3,fork,vfork,execve', LAUNCHER, '--version']);
    expect(code).toBe(0);
    const calls = stderr.split('\n').filter((line) => /\b(clone|clone3|fork|vfork|execve)\(/.test(line));
    expect(calls[0]).toContain('execve(');
    expect(calls[1]).toMatch(/execve\(".*node"/);
  });

  it('passes arguments on as they are', async () => {
    const result = await run(LAUNCHER, ['list', '--a b*"$HOME"'], { path: SYSTEM_PATH });
    expect(result.stderr).toContain(`unknown option '--a b*"$HOME"'`);
  });
});

describe('an installation that fails', () => {
  const clone = cloneInto(scratch.path);
  const launcher = join(clone, 'chainkeep');

  it('shows what npm said and what to do, and leaves nothing behind', async () => {
    const programs = makeProgram(join(scratch.path, 'broken'), 'npm', 'echo "npm error network unreachable"; exit 7');
    const result = await run(launcher, ['--version'], { path: `${programs}:${SYSTEM_PATH}` });
    expect(result).toMatchObject({ code: 1, stdout: '' });
    expect(result.stderr).toContain('npm error network unreachable');
    expect(result.stderr).toMatch(/chainkeep: npm could not .*\nchainkeep: check the network and the npm settings/);
    expect(readdirSync(clone)).not.toContain('.install-lock');
    expect(readdirSync(clone)).not.toContain('node_modules');
  });

  it('says when there is no node or no npm', async () => {
    const tools = ['sh', 'dirname', 'uname', 'mktemp', 'rm', 'mkdir', 'cat', 'readlink'];
    const nothing = await run(launcher, ['--version'], { path: pathOf(join(scratch.path, 'no-node'), tools) });
    expect(nothing).toMatchObject({ code: 1, stdout: '' });
    expect(nothing.stderr).toContain('node and npm are needed to install Chainkeep\nchainkeep: install Node');
    const noNpm = await run(launcher, ['--version'], { path: pathOf(join(scratch.path, 'no-npm'), [...tools, 'node']) });
    expect(noNpm).toMatchObject({ code: 1, stdout: '' });
    expect(noNpm.stderr).toContain('node and npm are needed to install Chainkeep\nchainkeep: install Node');
  });
});
