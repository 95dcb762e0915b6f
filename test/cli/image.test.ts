import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseAnswer, runChainkeep } from './run-chainkeep.ts';

const folder = mkdtempSync(join(tmpdir(), 'chainkeep-image-'));
const path = (name: string): string => join(folder, name);
const qemu = (program: string, ...args: string[]): string =>
  execFileSync(program, args, { cwd: folder, encoding: 'utf8', timeout: 20_000 });

beforeAll(() => {
  qemu('qemu-img', 'create', '-q', '-f', 'qcow2', 'base.qcow2', '20M');
  qemu('qemu-io', '-c', 'write -P 1 0 1M', '-c', 'write -P 2 5M 64k', 'base.qcow2');
  qemu('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', 'base.qcow2', 'top.qcow2');
  qemu('qemu-io', '-c', 'write -P 3 512k 64k', '-c', 'write -z 5M 64k', '-c', 'discard 0 64k', 'top.qcow2');
  qemu('qemu-img', 'convert', '-c', '-O', 'qcow2', 'top.qcow2', 'compressed.qcow2');
  qemu('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'compat=0.10,cluster_size=4k', 'old.qcow2', '3M');
  qemu('qemu-img', 'snapshot', '-c', 'a snapshot', 'base.qcow2');
  qemu('qemu-img', 'bitmap', '--add', 'compressed.qcow2', 'dirty');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('image info', () => {
  it.for(['base', 'top', 'compressed', 'old'])('says of %s what qemu-img says', async (name) => {
    const run = await runChainkeep(['image', 'info', path(`${name}.qcow2`), '--json']);
    expect(run).toMatchObject({ code: 0, stderr: '' });
    const theirs = JSON.parse(qemu('qemu-img', 'info', '--output=json', path(`${name}.qcow2`)));
    expect(parseAnswer(run)).toMatchObject(theirs);
  });

  it('tells people the same', async () => {
    const top = await runChainkeep(['image', 'info', path('top.qcow2')]);
    expect(top.stdout).toMatch(/^virtual size +20\.0 MiB \(20971520 bytes\)$/m);
    expect(top.stdout).toMatch(/^backing file +base\.qcow2 \(qcow2\)$/m);
    expect((await runChainkeep(['image', 'info', path('base.qcow2')])).stdout).toMatch(/^1 +a snapshot +0 B /m);
    expect((await runChainkeep(['image', 'info', path('compressed.qcow2')])).stdout).toMatch(/^dirty +65536 +auto$/m);
  });
});

describe('image map', () => {
  it.for([
    { name: 'base', args: [] },
    { name: 'top', args: ['--with-backing'] },
    { name: 'old', args: [] },
  ])('maps $name as qemu-img does', async ({ name, args }) => {
    const run = await runChainkeep(['image', 'map', path(`${name}.qcow2`), ...args, '--json']);
    expect(run).toMatchObject({ code: 0, stderr: '' });
    const ours: { compressed?: boolean }[] = JSON.parse(run.stdout);
    const withoutOurField = ours.map(({ compressed: _compressed, ...entry }) => entry);
    expect(withoutOurField).toEqual(JSON.parse(qemu('qemu-img', 'map', '--output=json', path(`${name}.qcow2`))));
  });

  it('prints the lines that qemu-img prints', async () => {
    const run = await runChainkeep(['image', 'map', path('top.qcow2'), '--with-backing']);
    const theirs = qemu('qemu-img', 'map', path('top.qcow2')).replaceAll('/./', '/');
    expect(run.stdout).toBe(theirs);
  });

  it('opens no backing file without --with-backing', async () => {
    const run = await runChainkeep(['image', 'map', path('top.qcow2'), '--json']);
    const entries: { depth: number; data: boolean }[] = JSON.parse(run.stdout);
    expect(entries.every((entry) => entry.depth === 0)).toBe(true);
    expect(entries.filter((entry) => entry.data)).toHaveLength(1);
  });

  it('shows where compressed clusters are', async () => {
    const run = await runChainkeep(['image', 'map', path('compressed.qcow2')]);
    expect(run.stdout).toMatch(/^0x10000 +0xf0000 +compressed +.*compressed\.qcow2$/m);
  });
});

describe('image commands on what is no image', () => {
  it.for(['info', 'map'])('%s', async (command) => {
    writeFileSync(path('text.qcow2'), 'this is not an image');
    const cases = [
      [path('missing.qcow2'), 'SOURCE_NOT_FOUND'],
      [folder, 'SOURCE_INVALID'],
      [path('text.qcow2'), 'QCOW2_INVALID'],
    ] as const;
    for (const [file, code] of cases) {
      const run = await runChainkeep(['image', command, file, '--json']);
      expect(run.code, file).toBe(1);
      expect(parseAnswer(run)).toMatchObject({ success: false, error_code: code, advice: expect.any(String) });
      expect(run.stderr).toMatch(/^error: .+\nadvice: .+\n$/);
    }
  });
});
