import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { overlay } from '../../src/disk/overlay.ts';
import { isChainkeepError } from '../../src/plumbing/errors.ts';
import { type BackingChoice, openImageFile } from '../../src/qcow2/open-image-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'chainkeep-open-image-'));
const path = (name: string): string => join(folder, name);

function qemu(program: 'qemu-img' | 'qemu-io', ...args: string[]): void {
  execFileSync(program, args, { cwd: folder, timeout: 20_000 });
}

/** An image of 1 MiB that names `backing`; nothing checks whether that exists. */
function makeImage(name: string, backing?: string, format = 'qcow2'): void {
  const backingArgs = backing === undefined ? [] : ['-u', '-b', backing, '-F', format];
  qemu('qemu-img', 'create', '-q', '-f', 'qcow2', ...backingArgs, name, '1M');
}

async function errorOf(file: string, choice: BackingChoice): Promise<string> {
  try {
    const { layers } = await openImageFile(path(file), 'qcow2', choice);
    await overlay(layers).close();
    return 'opened';
  } catch (error) {
    return isChainkeepError(error) ? `${error.code}: ${error.message}` : String(error);
  }
}

beforeAll(() => {
  makeImage('base.qcow2');
  qemu('qemu-io', '-c', 'write -P 7 0 128k', 'base.qcow2');
  makeImage('middle.qcow2', 'base.qcow2');
  makeImage('top.qcow2', 'middle.qcow2');
  qemu('qemu-io', '-c', 'write -P 9 64k 64k', 'top.qcow2');
  writeFileSync(path('base.raw'), Buffer.alloc(1024 * 1024, 5));
  makeImage('on-raw.qcow2', 'base.raw', 'raw');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('an image with backing files in its folder', () => {
  it('is opened with all its layers, newest first', async () => {
    const { layers } = await openImageFile(path('top.qcow2'), 'qcow2', 'same-folder');
    const disk = overlay(layers);
    expect(layers.map((layer) => layer.name)).toEqual([path('top.qcow2'), path('middle.qcow2'), path('base.qcow2')]);
    const bytes = Buffer.alloc(192 * 1024);
    await disk.read(bytes, 0);
    await disk.close();
    expect([bytes[0], bytes[65_536], bytes[131_072]]).toEqual([7, 9, 0]);
  });

  it('may stand on a raw file, whose format the image says', async () => {
    const { layers } = await openImageFile(path('on-raw.qcow2'), 'qcow2', 'same-folder');
    const disk = overlay(layers);
    const bytes = Buffer.alloc(512);
    await disk.read(bytes, 1024 * 1024 - 512);
    await disk.close();
    expect(bytes.every((byte) => byte === 5)).toBe(true);
  });

  it('is refused where backing files are not asked for', async () => {
    expect(await errorOf('top.qcow2', 'refuse')).toMatch(/^QCOW2_UNSUPPORTED: .*needs the backing file "middle.qcow2"/);
    expect(await errorOf('base.qcow2', 'refuse')).toBe('opened');
  });

  it('is opened alone where its own layer is wanted', async () => {
    const { layers } = await openImageFile(path('top.qcow2'), 'qcow2', 'ignore');
    expect(layers).toHaveLength(1);
    await overlay(layers).close();
  });
});

describe('a backing name that is not a plain name of a file in the same folder', () => {
  const NAMES = [
    ...['/etc/hostname', '../secret/file', 'sub/file', './base.raw', '..', '.', 'json:{"driver":"file","filename":"/etc/hostname"}'],
    ...['nbd:localhost:10809', 'nbd://localhost/x', 'file:/etc/hostname', 'fd:3', 'blkdebug::x', 'host_device:/dev/null', 'json:{}'],
  ];

  it.for(NAMES)('%s is refused', async (name) => {
    makeImage('names.qcow2', name, 'raw');
    expect(await errorOf('names.qcow2', 'same-folder')).toMatch(/^QCOW2_UNSUPPORTED: .*is not a plain name in the same folder$/);
  });

  it('is refused when it is missing, a link or a folder', async () => {
    writeFileSync(path('outside'), 'canary');
    mkdirSync(path('a-folder'));
    symlinkSync(path('outside'), path('a-link'));
    for (const name of ['missing', 'a-link', 'a-folder']) {
      makeImage('kinds.qcow2', name, 'raw');
      expect(await errorOf('kinds.qcow2', 'same-folder')).toMatch(/^QCOW2_UNSUPPORTED: .*is not a file in the same folder$/);
    }
  });

  it('is refused when its format is another one or not said', async () => {
    makeImage('vmdk.qcow2', 'base.raw', 'vmdk');
    expect(await errorOf('vmdk.qcow2', 'same-folder')).toMatch(/^QCOW2_UNSUPPORTED: .*format of the backing file "base.raw" is "vmdk"/);
    makeImage('unsaid.qcow2', 'base.raw', 'raw');
    qemu('qemu-img', 'amend', '-f', 'qcow2', '-o', 'compat=0.10', 'unsaid.qcow2');
    qemu('qemu-img', 'rebase', '-u', '-f', 'qcow2', '-b', '', 'unsaid.qcow2');
    writeBackingNameWithoutFormat(path('unsaid.qcow2'), 'base.raw');
    expect(await errorOf('unsaid.qcow2', 'same-folder')).toMatch(/^QCOW2_UNSUPPORTED: .*format of the backing file "base.raw" is not said/);
  });

  it('is refused when it leads back', async () => {
    makeImage('circle-a.qcow2', 'circle-b.qcow2');
    makeImage('circle-b.qcow2', 'circle-a.qcow2');
    expect(await errorOf('circle-a.qcow2', 'same-folder')).toMatch(/^QCOW2_UNSUPPORTED: .*leads back to/);
  });
});

/** Puts a backing name behind the header of a version 2 image (no header extensions there), offsets 8 and 16 of the header. */
function writeBackingNameWithoutFormat(file: string, name: string): void {
  const script = `
    const fs = require('node:fs'); const fd = fs.openSync(process.argv[1], 'r+');
    const head = Buffer.alloc(12); head.writeBigUInt64BE(256n, 0); head.writeUInt32BE(process.argv[2].length, 8);
    fs.writeSync(fd, Buffer.alloc(512 - 72), 0, 512 - 72, 72); fs.writeSync(fd, head, 0, 12, 8); fs.writeSync(fd, process.argv[2], 256);`;
  execFileSync(process.execPath, ['-e', script, file, name]);
}
