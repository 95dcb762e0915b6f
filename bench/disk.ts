// Makes the disks that are measured: a file system with real files on a sparse file, and changes to it.

import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, existsSync, fstatSync, ftruncateSync, mkdirSync, openSync, readdirSync, rmSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';

export function sh(command: string, env: Readonly<Record<string, string>> = {}): string {
  const result = spawnSync('bash', ['-c', command], { encoding: 'utf8', env: { ...process.env, ...env } });
  if (result.status !== 0) throw new Error(`${command}: ${result.stderr}`);
  return result.stdout.trim();
}

/** An ext4 file system of `size` bytes with about `wanted` bytes of this machine's own programs and documents; no root needed. */
export function makeDisk(path: string, size: number, wanted: number): void {
  const staging = `${path}.files`;
  rmSync(staging, { recursive: true, force: true });
  mkdirSync(staging);
  let copied = 0;
  for (const folder of ['/usr/lib', '/usr/share', '/usr/bin', '/usr/libexec', '/usr/local']) {
    if (!existsSync(folder)) continue;
    for (const name of readdirSync(folder)) {
      const bytes = Number(sh(`du -sxb ${JSON.stringify(join(folder, name))} 2>/dev/null | cut -f1`) || 0);
      if (copied >= wanted) break;
      mkdirSync(join(staging, folder), { recursive: true });
      sh(`cp -a ${JSON.stringify(join(folder, name))} ${JSON.stringify(join(staging, folder))}/`);
      copied += bytes;
    }
  }
  const fd = openSync(path, 'w');
  ftruncateSync(fd, size);
  closeSync(fd);
  sh(`mkfs.ext4 -q -F -d ${JSON.stringify(staging)} ${JSON.stringify(path)}`);
  rmSync(staging, { recursive: true, force: true });
}

/** Overwrites `bytes` of the disk with new data, in pieces of 64 KiB at random places. */
export function change(path: string, bytes: number): void {
  const fd = openSync(path, 'r+');
  const clusters = Math.floor(fstatSync(fd).size / 65_536);
  for (let done = 0; done < bytes; done += 65_536)
    writeSync(fd, randomBytes(65_536), 0, 65_536, Math.floor(Math.random() * clusters) * 65_536);
  closeSync(fd);
}

/** A sparse disk with `extents` pieces of data, 4 KiB each, scattered evenly. */
export function makeScattered(path: string, size: number, extents: number): void {
  const fd = openSync(path, 'w');
  ftruncateSync(fd, size);
  const data = randomBytes(4096);
  const step = Math.floor(size / extents / 65_536) * 65_536;
  for (let index = 0; index < extents; index++) {
    data.writeUInt32LE(index);
    writeSync(fd, data, 0, data.length, index * step);
  }
  closeSync(fd);
}

export function allocated(path: string): number {
  return statSync(path).blocks * 512;
}
