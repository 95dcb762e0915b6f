// The built package: the program, its worker threads and the library run as JavaScript without types.

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { installBuiltPackage } from './built-package.ts';
import { makeFolder, run } from './small-clone.ts';

const scratch = makeFolder();
let installed = '';

beforeAll(() => {
  installed = installBuiltPackage(scratch.path);
});
afterAll(scratch.remove);

describe('the package', () => {
  it('holds the program, run by node without types', async () => {
    const result = await run(process.execPath, [join(installed, 'dist/main.js'), '--version']);
    expect(result).toEqual({ code: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/), stderr: '' });
  });

  it('runs its worker threads', async () => {
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', 'a.qcow2', '1M'], { cwd: scratch.path });
    execFileSync('qemu-io', ['-c', 'write -P 3 0 200k', 'a.qcow2'], { cwd: scratch.path });
    const args = ['image', 'convert', 'a.qcow2', 'b.qcow2', '--format', 'qcow2', '--compression', 'zstd'];
    const result = await run(process.execPath, [join(installed, 'dist/main.js'), ...args], { cwd: scratch.path });
    expect(result, result.stderr).toMatchObject({ code: 0 });
    execFileSync('qemu-img', ['compare', '-f', 'qcow2', '-F', 'qcow2', 'a.qcow2', 'b.qcow2'], { cwd: scratch.path });
  });

  it('is a library: chainkeep/qcow2', async () => {
    const script = `import { openFileSource, openQcow2 } from 'chainkeep/qcow2';
      const image = await openQcow2(await openFileSource('a.qcow2'));
      const bytes = Buffer.alloc(2); await image.read(bytes, 200 * 1024 - 1); await image.close();
      console.log(image.size, bytes[0], bytes[1]);`;
    const result = await run(process.execPath, ['--input-type=module', '-e', script], { cwd: scratch.path });
    expect(result).toEqual({ code: 0, stdout: '1048576 3 0\n', stderr: '' });
  });
});
