import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseAnswer, type Run, runChainkeep, startChainkeep, whenEnded } from './run-chainkeep.ts';

const folder = mkdtempSync(join(tmpdir(), 'chainkeep-convert-'));
const path = (name: string): string => join(folder, name);
const qemu = (program: string, ...args: string[]): string =>
  execFileSync(program, args, { cwd: folder, encoding: 'utf8', timeout: 60_000 });
const MIB = 1024 * 1024;

/** A raw disk with data that compresses, data that does not, holes and zeros, and a size that is no multiple of anything. */
function makeDisk(name: string, size: number): void {
  const file = openSync(path(name), 'w');
  const random = randomBytes(MIB);
  random[0] = 1; // no zero: where a disk of zeros begins to differ is known then
  writeSync(file, random, 0, MIB, 0);
  writeSync(file, Buffer.alloc(3 * MIB, 'compressible '), 0, 3 * MIB, 2 * MIB + 4096);
  writeSync(file, random, 0, 700, 9 * MIB + 100);
  writeSync(file, random, 0, 333, size - 333);
  ftruncateSync(file, size);
  closeSync(file);
}

beforeAll(() => {
  makeDisk('disk.raw', 20 * MIB + 512);
  makeDisk('odd.raw', 11 * MIB + 333);
  qemu('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', 'disk.raw', 'plain.qcow2');
  qemu('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', '-c', '-o', 'cluster_size=2M', 'disk.raw', 'zlib-2m.qcow2');
  qemu('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', '-c', '-o', 'cluster_size=4k,compression_type=zstd', 'disk.raw', 'zstd-4k.qcow2');
  qemu('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', '-o', 'extended_l2=on,cluster_size=128k', 'disk.raw', 'extended.qcow2');
  qemu('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', '-o', 'compat=0.10,cluster_size=512', 'disk.raw', 'old.qcow2');
  qemu('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', 'plain.qcow2', 'top.qcow2');
  qemu('qemu-io', '-c', 'write -P 9 3M 100k', '-c', 'write -z 0 512k', 'top.qcow2');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function expectSame(source: string, target: string, format: string): void {
  expect(qemu('qemu-img', 'compare', '-f', source.endsWith('raw') ? 'raw' : 'qcow2', '-F', format, source, target)).toContain('identical');
  if (format === 'qcow2') qemu('qemu-img', 'check', '-q', target); // exits with an error for damage and for leaks
}

describe('image convert', () => {
  const SOURCES = ['plain.qcow2', 'zlib-2m.qcow2', 'zstd-4k.qcow2', 'extended.qcow2', 'old.qcow2', 'top.qcow2', 'disk.raw', 'odd.raw'];
  const FORMATS = [['raw'], ['qcow2'], ['qcow2', '--compression', 'zstd'], ['qcow2', '--compression', 'zlib']];

  it.for(SOURCES)('%s to every format, as qemu reads it and as we compare it', async (source) => {
    const sourceFormat = source.endsWith('raw') ? 'raw' : 'qcow2';
    for (const [format = '', ...options] of FORMATS) {
      const target = `${source}.to-${format}`;
      const run = await runChainkeep([
        ...['image', 'convert', path(source), path(target), '--format', format, ...options, '--force', '--json'],
        ...['--source-format', sourceFormat, ...(source === 'top.qcow2' ? ['--with-backing'] : [])],
      ]);
      expect(run, run.stderr).toMatchObject({ code: 0 });
      expect(parseAnswer(run)).toMatchObject({ success: true, target: path(target) });
      expectSame(source, target, format);
      const compared = await runChainkeep([
        ...['image', 'compare', path(source), path(target), '--format-a', sourceFormat, '--format-b', format, '--with-backing', '--json'],
      ]);
      expect(parseAnswer(compared)).toMatchObject({ identical: true });
      expect(compared.code).toBe(0);
    }
  });

  it('keeps the exact size of a raw disk', () => {
    expect(readFileSync(path('odd.raw.to-raw')).equals(readFileSync(path('odd.raw')))).toBe(true);
  });

  it('compresses, and says how in the header', () => {
    const size = (name: string): number => readFileSync(path(name)).length;
    expect(size('disk.raw.to-qcow2')).toBeLessThan(3 * MIB);
    expect(qemu('qemu-img', 'info', 'disk.raw.to-qcow2')).toContain('compression type: zlib');
  });
});

describe('image compare', () => {
  it('says where the first difference is, with exit code 1', async () => {
    const run = await runChainkeep(['image', 'compare', path('plain.qcow2'), path('top.qcow2'), '--with-backing', '--json']);
    expect(run.code).toBe(1);
    expect(parseAnswer(run)).toMatchObject({ identical: false, offset: 0 });
    const text = await runChainkeep(['image', 'compare', path('plain.qcow2'), path('odd.raw'), '--format-b', 'raw']);
    expect(text).toMatchObject({ code: 1, stdout: expect.stringMatching(/^Content mismatch at offset \d+!\n$/), stderr: '' });
  });
});

describe('image check', () => {
  it('finds nothing in a good image and says what qemu-img says', async () => {
    const run = await runChainkeep(['image', 'check', path('zlib-2m.qcow2'), '--json']);
    expect(run.code).toBe(0);
    expect(parseAnswer(run)).toMatchObject(JSON.parse(qemu('qemu-img', 'check', '--output=json', path('zlib-2m.qcow2'))));
    expect((await runChainkeep(['image', 'check', path('plain.qcow2')])).stdout).toBe(qemu('qemu-img', 'check', 'plain.qcow2'));
  });

  it('tells leaks with exit code 1', async () => {
    qemu('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', 'disk.raw', 'leak.qcow2');
    const bytes = readFileSync(path('leak.qcow2'));
    const l1 = Number(bytes.readBigUInt64BE(40));
    bytes.writeBigUInt64BE(0n, l1); // forget the first L2 table: all it maps is lost room
    writeFileSync(path('leak.qcow2'), bytes);
    const run = await runChainkeep(['image', 'check', path('leak.qcow2')]);
    expect(run.code).toBe(1);
    expect(run.stdout).toMatch(/^leak: .*\n/);
    expect(run.stdout).toMatch(/leaked clusters: room is wasted/);
  });
});

describe('a conversion that cannot be', () => {
  const cases = (): readonly (readonly [args: readonly string[], code: string])[] => [
    [['missing', path('new'), '--format', 'raw'], 'SOURCE_NOT_FOUND'],
    [[path('disk.raw'), path('new'), '--format', 'raw'], 'QCOW2_INVALID'],
    [[path('top.qcow2'), path('new'), '--format', 'raw'], 'QCOW2_UNSUPPORTED'],
    [[path('plain.qcow2'), path('disk.raw'), '--format', 'raw'], 'TARGET_EXISTS'],
    [[path('plain.qcow2'), path('no/such/folder/new'), '--format', 'raw'], 'TARGET_INVALID'],
    [[path('plain.qcow2'), path('a-folder'), '--format', 'raw', '--force'], 'TARGET_INVALID'],
    [[path('plain.qcow2'), `${path('new')}/`, '--format', 'raw'], 'TARGET_INVALID'],
    [[path('plain.qcow2'), '/dev/null', '--format', 'raw', '--force'], 'TARGET_INVALID'],
    [[path('plain.qcow2'), path('new'), '--format', 'raw', '--compression', 'zstd'], 'USAGE'],
  ];

  it('says why in one line, and leaves nothing behind', async () => {
    mkdirSync(path('a-folder'));
    const before = readdirSync(folder);
    for (const [args, code] of cases()) {
      const run = await runChainkeep(['image', 'convert', ...args, '--json']);
      expect(parseAnswer(run), args.join(' ')).toMatchObject({ success: false, error_code: code });
      expect(run.stderr).toMatch(/^error: .+\nadvice: .+\n$/);
      expect(run.code).toBe(code === 'USAGE' ? 2 : 1);
    }
    expect(readdirSync(folder)).toEqual(before);
  });

  it('is one of a damaged image: named with the guest offset, no target is left', async () => {
    const bytes = readFileSync(path('zlib-2m.qcow2'));
    const l2 = Number(bytes.readBigUInt64BE(Number(bytes.readBigUInt64BE(40))) & 0xfffffffffffe00n);
    const entry = bytes.readBigUInt64BE(l2 + 8); // the second cluster, compressed: offset in the low bits
    const at = Number(entry & ((1n << 49n) - 1n));
    bytes.fill(0xff, at, at + 64);
    writeFileSync(path('damaged.qcow2'), bytes);
    const run = await runChainkeep(['image', 'convert', path('damaged.qcow2'), path('from-damaged'), '--format', 'raw', '--json']);
    expect(run.code).toBe(1);
    expect(parseAnswer(run)).toMatchObject({ error_code: 'QCOW2_INVALID', guest_offset: expect.any(Number) });
    expect(readdirSync(folder).filter((name) => name.includes('from-damaged'))).toEqual([]);
  });

  it('is one that is interrupted', async () => {
    const block = randomBytes(MIB);
    const file = openSync(path('large.raw'), 'w');
    for (let index = 0; index < 200; index += 1) writeSync(file, block);
    closeSync(file);
    const args = [
      'image',
      'convert',
      path('large.raw'),
      path('interrupted'),
      '--format',
      'qcow2',
      '--compression',
      'zlib',
      '--source-format',
      'raw',
    ];
    const child = startChainkeep([...args, '--json']);
    const ended: Promise<Run> = whenEnded(child);
    while (!readdirSync(folder).some((name) => name.includes('.interrupted.'))) await sleep(5); // it has begun to write
    child.kill('SIGINT');
    const run = await ended;
    expect(run.code).toBe(1);
    expect(parseAnswer(run)).toMatchObject({ success: false, error_code: 'CANCELLED' });
    expect(readdirSync(folder).filter((name) => name.includes('interrupted'))).toEqual([]);
    rmSync(path('large.raw'));
  });
});
