// Small file systems of their own for tests and campaigns that fill or lose one. Needs root; where mounting is not allowed it says why.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface TemporaryMount {
  readonly path: string;
  remount(options: string): void;
  /** Also when something is still open in it, as after a disk was pulled. */
  unmount(): void;
  dispose(): void;
}

function mount(...args: string[]): void {
  execFileSync('mount', args, { timeout: 10_000, stdio: ['ignore', 'ignore', 'pipe'] });
}

/** A tmpfs with these options (`size=256k`), or a plain sentence why there is none. */
export function mountTmpfs(options: string): TemporaryMount | string {
  return mountAt((path) => mount('-t', 'tmpfs', '-o', `${options},mode=0700`, 'chainkeep-test', path));
}

/** An ext4 of this size in a file, behind a loop device; nothing in it is reserved for root. Or a plain sentence why there is none. */
export function mountExt4(file: string, bytes: number): TemporaryMount | string {
  return mountLoop({ file, bytes, type: 'ext4', make: ['mkfs.ext4', '-q', '-F', '-m', '0', '-O', '^resize_inode'] });
}

/** The same for XFS, which takes no less than 300 MiB. */
export function mountXfs(file: string, bytes: number): TemporaryMount | string {
  return mountLoop({ file, bytes, type: 'xfs', make: ['mkfs.xfs', '-q', '-f'] });
}

interface LoopMount {
  readonly file: string;
  readonly bytes: number;
  readonly type: string;
  /** The program that makes the file system, without the file. */
  readonly make: readonly [string, ...string[]];
}

function mountLoop({ file, bytes, type, make: [program, ...options] }: LoopMount): TemporaryMount | string {
  return mountAt((path) => {
    writeFileSync(file, '');
    truncateSync(file, bytes);
    const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
    execFileSync(program, [...options, file], { timeout: 30_000, stdio: ['ignore', 'ignore', 'pipe'], env });
    mount('-t', type, '-o', 'loop', file, path);
  });
}

function mountAt(make: (path: string) => void): TemporaryMount | string {
  const path = mkdtempSync(join(tmpdir(), 'chainkeep-mount-'));
  try {
    make(path);
  } catch (error) {
    rmSync(path, { recursive: true });
    return `a file system cannot be mounted here (${error instanceof Error ? (error.message.split('\n')[1] ?? error.message) : error})`;
  }
  let mounted = true;
  const unmount = (): void => {
    if (mounted) execFileSync('umount', ['--lazy', path], { timeout: 10_000 });
    mounted = false;
  };
  return {
    path,
    remount: (options) => mount('-o', `remount,${options}`, path),
    unmount,
    dispose: () => {
      unmount();
      rmSync(path, { recursive: true });
    },
  };
}
