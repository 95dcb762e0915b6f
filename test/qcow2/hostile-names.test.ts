// Images that want files of the host to be read. The judge is the kernel: strace tells every file that was opened.

import { execFileSync } from 'node:child_process';
import { readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openFileSource } from '../../src/plumbing/file-source.ts';
import { checkImage } from '../../src/qcow2/checker.ts';
import { encodeFeatureNames, FEATURE_NAMES } from '../../src/qcow2/feature-bits.ts';
import { EXTENSION_DATA_FILE, EXTENSION_FEATURE_NAMES, encodeHeaderExtensions } from '../../src/qcow2/header-extensions.ts';
import { openQcow2 } from '../../src/qcow2/image.ts';
import { readImageInfo } from '../../src/qcow2/image-info.ts';
import { craftImage } from './crafted-image.ts';
import { qemuImg, scratchFolder } from './qemu-tools.ts';

const scratch = scratchFolder();
const canary = scratch('canary');
writeFileSync(canary, 'the canary sings');

const NAMES = [
  canary,
  '/etc/hostname',
  '/etc/passwd',
  '../../../../../../etc/passwd',
  'canary',
  './canary',
  `file:${canary}`,
  `file://${canary}`,
  `json:{"driver":"raw","file":{"driver":"file","filename":"${canary}"}}`,
  `json:{"driver":"host_device","filename":"${canary}"}`,
  `blkdebug::${canary}`,
  `fat:${scratch('')}`,
  'nbd://127.0.0.1:1/x',
  'http://127.0.0.1:1/x',
];

const PROGRAM = `
  import { openFileSource, openQcow2, checkImage, readImageInfo, mapImage } from '${resolve('src/qcow2/library.ts')}';
  for (const path of process.argv.slice(2)) {
    const source = await openFileSource(path);
    console.log('READING');
    const outcomes = [];
    outcomes.push(await openQcow2(source).then(() => 'opened', (error) => error.code));
    const layer = await openQcow2(source, { layer: true });
    await layer.read(new Uint8Array(65536), 0);
    outcomes.push((await Array.fromAsync(mapImage([layer]))).length);
    outcomes.push((await checkImage(source)).corruptions);
    outcomes.push((await readImageInfo(source))['backing-filename']);
    await source.close();
    console.log('DONE ' + JSON.stringify(outcomes));
  }`;

describe('a backing name in an image', () => {
  it('is never opened, looked up or connected to', () => {
    const images = NAMES.map((name, index) => {
      writeFileSync(scratch(`${index}.qcow2`), craftImage({ backing: { name, format: 'raw' } }).bytes);
      return scratch(`${index}.qcow2`);
    });
    writeFileSync(scratch('program.mjs'), PROGRAM);
    const trace = ['-f', '-qq', '-s', '200', '-e', 'trace=%file,%network', '-o', scratch('trace')];
    const output = execFileSync('strace', [...trace, process.execPath, scratch('program.mjs'), ...images], {
      encoding: 'utf8',
      timeout: 60_000,
      // What measures coverage opens files of its own.
      env: { ...process.env, NODE_V8_COVERAGE: '' },
    });
    const outcomes = output.split('\n').filter((line) => line.startsWith('DONE'));
    expect(outcomes).toEqual(NAMES.map((name) => `DONE ${JSON.stringify(['QCOW2_UNSUPPORTED', 1, 0, name])}`));
    const calls = readFileSync(scratch('trace'), 'utf8').split('\n');
    // The program itself is loaded before the first image is opened; from there on only the images may be touched.
    const first = calls.findIndex((line) => line.includes('openat(') && line.includes(`"${images[0]}"`));
    expect(first).toBeGreaterThan(0);
    const touched = calls.slice(first).flatMap((line) => /"([^"]+)"/.exec(line)?.[1] ?? (/connect\(|socket\(/.test(line) ? line : []));
    expect([...new Set(touched)].filter((path) => path !== '/dev/null' && !path.startsWith('/sys/devices/system/cpu/')).sort()).toEqual(
      [...images].sort(),
    );
  });
});

describe('an external data file', () => {
  async function refusals(path: string): Promise<string[]> {
    const source = await openFileSource(path);
    const codes = await Promise.all(
      [openQcow2(source, { layer: true }), checkImage(source), readImageInfo(source)].map((work) =>
        work.then(
          () => 'accepted',
          (error: { code: string }) => error.code,
        ),
      ),
    );
    await source.close();
    return codes;
  }

  it('made by qemu is refused everywhere, and not touched', async () => {
    const path = scratch('data-file.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', '-o', `data_file=${scratch('data.raw')}`, path, '1M');
    utimesSync(scratch('data.raw'), 1000, 1000);
    expect(await refusals(path)).toEqual(['QCOW2_UNSUPPORTED', 'QCOW2_UNSUPPORTED', 'QCOW2_UNSUPPORTED']);
    expect(statSync(scratch('data.raw'))).toMatchObject({ atimeMs: 1_000_000, mtimeMs: 1_000_000 });
  });

  it('in a crafted header is refused everywhere, and not touched', async () => {
    const { bytes, view } = craftImage();
    const names = { type: EXTENSION_FEATURE_NAMES, data: encodeFeatureNames(FEATURE_NAMES) };
    for (const name of [canary, `json:{"driver":"file","filename":"${canary}"}`]) {
      bytes.fill(0, 112, 2000);
      bytes.set(encodeHeaderExtensions([names, { type: EXTENSION_DATA_FILE, data: Buffer.from(name) }]), 112);
      view.setBigUint64(72, 4n);
      writeFileSync(scratch('crafted.qcow2'), bytes);
      utimesSync(canary, 1000, 1000);
      expect(await refusals(scratch('crafted.qcow2'))).toEqual(['QCOW2_UNSUPPORTED', 'QCOW2_UNSUPPORTED', 'QCOW2_UNSUPPORTED']);
      expect(statSync(canary).atimeMs).toBe(1_000_000);
    }
  });
});

describe('an encrypted image', () => {
  it('made by qemu is refused', async () => {
    const path = scratch('encrypted.qcow2');
    const options = 'encrypt.format=aes,encrypt.key-secret=key';
    qemuImg('create', '-q', '--object', 'secret,id=key,data=secret', '-f', 'qcow2', '-o', options, path, '1M');
    const source = await openFileSource(path);
    await expect(openQcow2(source)).rejects.toMatchObject({ code: 'QCOW2_UNSUPPORTED', message: /encrypted/ });
    await source.close();
  });
});
