// The judges: real qemu-img and qemu-io, each call with a time limit, in a folder of its own.

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

const LIMIT_MS = 20_000;

/** A folder that is gone when the tests of the file are done; answers paths in it. */
export function scratchFolder(): (name: string) => string {
  const folder = mkdtempSync(join(tmpdir(), 'chainkeep-qcow2-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return (name) => join(folder, name);
}

export function qemuImg(...args: string[]): string {
  return execFileSync('qemu-img', args, { timeout: LIMIT_MS, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

export function qemuIo(path: string, ...commands: string[]): void {
  execFileSync('qemu-io', ['-f', 'qcow2', ...commands.flatMap((command) => ['-c', command]), path], { timeout: LIMIT_MS, stdio: 'pipe' });
}

/** The answer of `qemu-img check`, whose exit code is not zero for a damaged image. */
export function qemuCheck(path: string): { readonly code: number | null; readonly report: Record<string, unknown> } {
  const run = spawnSync('qemu-img', ['check', '--output=json', '-f', 'qcow2', path], { timeout: LIMIT_MS, encoding: 'utf8' });
  const report: unknown = JSON.parse(run.stdout || '{}');
  if (typeof report !== 'object' || report === null) throw new Error(`qemu-img check printed ${run.stdout}`);
  return { code: run.status, report: { ...report } };
}

/** What qemu-img reads of a healthy image. */
export function convertToRaw(path: string): Buffer {
  const raw = `${path}.judge`;
  qemuImg('convert', '-f', 'qcow2', '-O', 'raw', path, raw);
  const bytes = readFileSync(raw);
  rmSync(raw);
  return bytes;
}

/** Numbers from 0 up to `limit`, the same for the same seed. */
export function numbers(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

/** Bytes that do not compress, the same for the same seed. */
export function noise(length: number, seed: number): Buffer {
  const next = numbers(seed);
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at += 1) bytes[at] = next(256);
  return bytes;
}
