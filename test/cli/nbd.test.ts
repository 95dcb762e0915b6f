// `nbd info` and `nbd copy` as a user runs them, against 'qemu-nbd' and 'nbdkit'.

import { randomBytes } from 'node:crypto';
import { truncateSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Peer, peerFolder, runTool, startServer } from '../nbd/nbd-peers.ts';
import { parseAnswer, runChainkeep } from './run-chainkeep.ts';

const MIB = 1 << 20;
const scratch = peerFolder();
let source: Peer;
let target: Peer;

beforeAll(async () => {
  writeFileSync(scratch('a.raw'), randomBytes(3 * MIB));
  truncateSync(scratch('a.raw'), 20 * MIB);
  writeFileSync(scratch('b.raw'), Buffer.alloc(20 * MIB, 0xee));
  source = await startServer(scratch('a'), 'qemu-nbd', ['-r', '-e', '8', '-f', 'raw', '-x', 'disk', scratch('a.raw')]);
  target = await startServer(scratch('b'), 'qemu-nbd', ['-e', '8', '-f', 'raw', '-x', 'disk', scratch('b.raw')]);
});
afterAll(async () => {
  await source.stop();
  await target.stop();
});

describe('nbd info', () => {
  it('says the same as nbdinfo', async () => {
    const run = await runChainkeep(['nbd', 'info', source.address('disk'), '--json']);
    const theirs: { exports: Record<string, unknown>[] } = JSON.parse((await runTool('nbdinfo', '--json', source.address('disk'))).stdout);
    const answer = parseAnswer(run);
    for (const name of [
      'export-name',
      'export-size',
      'contexts',
      'is_read_only',
      'can_multi_conn',
      'can_df',
      'can_zero',
      'block_size_maximum',
    ])
      expect(answer[name], name).toEqual(theirs.exports[0]?.[name]);
    const text = await runChainkeep(['nbd', 'info', source.address('disk')]);
    expect(text).toMatchObject({ code: 0, stderr: '', stdout: expect.stringMatching(/export-size +20.0 MiB \(20971520 bytes\)/) });
    const list = await runChainkeep(['nbd', 'info', '--list', source.address()]);
    expect(list).toMatchObject({ code: 0, stdout: expect.stringMatching(/EXPORT.*\ndisk/) });
  });

  it.each([
    [['nbd', 'info', 'nbd+unix:///none?socket=/nowhere/at/all'], 'CONNECTION_FAILED'],
    [['nbd', 'info', 'http://host/disk'], 'CONFIG_INVALID'],
    [['nbd', 'info', 'nbds://user:secret@host/disk'], 'CONFIG_INVALID'],
  ])('%s', async (args, code) => {
    const run = await runChainkeep([...args, '--json']);
    expect(run.code).toBe(1);
    expect(run.stdout + run.stderr).toContain(code);
    expect(run.stdout + run.stderr).not.toContain('secret');
  });
});

describe('nbd copy', () => {
  it('from an export to another, to a file, and from a file', async () => {
    const compare = (a: string, b: string) => runTool('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', a, b);
    expect(await runChainkeep(['nbd', 'copy', source.address('disk'), target.address('disk')])).toMatchObject({ code: 0 });
    expect(await compare(scratch('a.raw'), target.address('disk'))).toMatchObject({ code: 0 });
    const run = await runChainkeep(['nbd', 'copy', target.address('disk'), scratch('c.raw'), '--json']);
    expect(parseAnswer(run)).toMatchObject({ success: true, total_bytes: 20 * MIB });
    expect(await compare(scratch('a.raw'), scratch('c.raw'))).toMatchObject({ code: 0 });
    writeFileSync(scratch('d.raw'), randomBytes(20 * MIB));
    expect(await runChainkeep(['nbd', 'copy', scratch('d.raw'), target.address('disk'), '--quiet'])).toMatchObject({
      code: 0,
      stdout: '',
      stderr: '',
    });
    expect(await compare(scratch('d.raw'), target.address('disk'))).toMatchObject({ code: 0 });
  });

  it('is refused where it would do harm or nothing, and leaves nothing of a copy that failed', async () => {
    const code = async (...args: string[]): Promise<unknown> => {
      const run = await runChainkeep(['nbd', 'copy', ...args, '--json']);
      return parseAnswer({ ...run, stdout: run.stdout || run.stderr });
    };
    expect(await code(scratch('a.raw'), scratch('b.raw'))).toMatchObject({ error_code: 'USAGE' });
    expect(await code(source.address('disk'), scratch('a.raw'))).toMatchObject({ error_code: 'TARGET_EXISTS' });
    expect(await code(target.address('disk'), source.address('disk'))).toMatchObject({ error_code: 'EXPORT_REFUSED' });
    const bad = await startServer(scratch('bad'), 'nbdkit', [
      '--filter=noextents',
      '--filter=error',
      'pattern',
      '4M',
      'error-pread=EIO',
      'error-pread-rate=100%',
    ]);
    expect(await code(bad.address(), scratch('bad.raw'))).toMatchObject({ error_code: 'SOURCE_UNREADABLE' });
    expect((await runTool('ls', '-A', scratch('.'))).stdout).not.toContain('bad.raw');
    await bad.stop();
  });
});
