// Faults from outside, with no hook in the product: every system call that writes is failed and killed by strace, one after the other.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openLocalStore } from '../../src/store/local/local-store.ts';
import { listLeftovers, readBlob } from '../../src/store/testing/store-probe.ts';
import { listNames, writeBlob } from '../../src/store/trial.ts';
import type { WriterReport } from './blob-writer.ts';

const WRITER = fileURLToPath(new URL('./blob-writer.ts', import.meta.url));
const CALLS = ['mkdir', 'pwrite64', 'fsync', 'link', 'rename', 'unlink', 'renameat2'];
const CALLS_OF = {
  create: ['mkdir', 'pwrite64', 'fsync', 'link', 'unlink'],
  replace: ['mkdir', 'pwrite64', 'fsync', 'rename'],
};
const OLD = 'the old content';
const NEW = 'the new content, which is longer';

let root: string;
let trace: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'chainkeep-faults-'));
  trace = `${root}.trace`;
});
afterEach(async () => {
  await rm(root, { recursive: true });
  await rm(trace, { force: true });
});

interface Run {
  /** Undefined when it was killed. */
  readonly report: WriterReport | undefined;
  /** System calls on the store, such as `fsync vms/a/blob.tmp`. */
  readonly calls: readonly string[];
  readonly injected: boolean;
}

type Mode = 'create' | 'replace';

/** One thread for file calls: strace counts calls per thread, so N means the same call in every run. */
async function runWriter(mode: Mode, inject: readonly string[] = [], env: NodeJS.ProcessEnv = {}): Promise<Run> {
  const options = ['-f', '-y', '-qq', '-o', trace, '-e', `trace=${CALLS.join(',')}`];
  // Twice as fast; but strace 6.1 injects no signals with it.
  if (!inject.some((rule) => rule.includes(':signal='))) options.push('--seccomp-bpf');
  for (const rule of inject) options.push('-e', `inject=${rule}`);
  const child = spawn('strace', [...options, process.execPath, WRITER, root, mode, NEW], {
    // Measuring coverage writes files of its own at the end, which would be counted with the others.
    env: { ...process.env, UV_THREADPOOL_SIZE: '1', NODE_V8_COVERAGE: undefined, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 20_000,
  });
  let output = '';
  child.stdout.on('data', (text) => {
    output += text;
  });
  const [, signal] = await once(child, 'close');
  const lines = (await readFile(trace, 'utf8')).split('\n');
  return {
    report: output === '' ? undefined : JSON.parse(output),
    calls: lines.flatMap((line) => callOf(line)),
    injected: signal === 'SIGKILL' || lines.some((line) => line.includes('(INJECTED)')),
  };
}

function callOf(line: string): string[] {
  const call = /^\d+ +(\w+)\(/.exec(line)?.[1];
  const path = line.split(root)[1];
  if (!call || path === undefined) return [];
  const name = /^[^">,]*/.exec(path)?.[0] ?? '';
  return [`${call} ${name.slice(1).replace(/\.tmp-\w+/, '.tmp')}`.trimEnd()];
}

/** All that may be after a fault: the old state or the new one, whole, never a third. Answers which. */
async function stateOf(mode: Mode): Promise<'old' | 'new'> {
  const store = await openLocalStore(root, { create: false });
  const names = await listNames(store);
  if (mode === 'create' && names.length === 0) return 'old';
  expect(names).toEqual(['vms/a/blob']);
  const content = (await readBlob(store, 'vms/a/blob')).toString();
  if (mode === 'replace' && content === OLD) return 'old';
  expect(content).toBe(NEW);
  return 'new';
}

async function reset(mode: Mode): Promise<void> {
  await rm(join(root, 'vms'), { recursive: true, force: true });
  if (mode === 'replace') await writeBlob(await openLocalStore(root, { create: false }), 'vms/a/blob', OLD);
}

/** Runs with `rule(N)` for N = 1, 2, 3 … until nothing was injected any more; answers how many were. */
async function forEachFault(mode: Mode, rule: (count: number) => string, check: (run: Run) => Promise<void>): Promise<number> {
  for (let count = 1; ; count += 1) {
    await reset(mode);
    const run = await runWriter(mode, [rule(count)]);
    if (!run.injected) {
      expect(run.report).toEqual({ put: 'ok', append: 'ok', finish: 'ok' });
      return count - 1;
    }
    await check(run);
  }
}

describe('the order of durability', () => {
  it('create: bytes, head, fsync of the file, link, fsync of the folder; each new folder is synced in its parent first', async () => {
    expect((await runWriter('create')).calls).toEqual([
      ...['mkdir vms', 'fsync', 'mkdir vms/a', 'fsync vms'],
      ...['pwrite64 vms/a/blob.tmp', 'pwrite64 vms/a/blob.tmp', 'pwrite64 vms/a/blob.tmp'],
      ...['fsync vms/a/blob.tmp', 'link vms/a/blob.tmp', 'unlink vms/a/blob.tmp', 'fsync vms/a'],
    ]);
  });

  it('replace: the same with a rename', async () => {
    await reset('replace');
    const { calls } = await runWriter('replace');
    expect(calls.slice(-3)).toEqual(['fsync vms/a/blob.tmp', 'rename vms/a/blob.tmp', 'fsync vms/a']);
    expect(calls.filter((call) => call.startsWith('fsync vms/a/blob.tmp')).length).toBe(1);
  });

  it('a short write is continued where it stopped', async () => {
    await runWriter('create', ['pwrite64:retval=3:when=1']);
    const lines = (await readFile(trace, 'utf8')).split('\n').filter((line) => line.includes('pwrite64'));
    expect(lines.map((line) => / (\d+, \d+)\)/.exec(line)?.[1])).toEqual(['12, 4', '9, 7', '16, 16', '4, 0']);
  });
});

describe.each(['create', 'replace'] as const)('%s', (mode) => {
  it('killed at every system call: the old or the new, whole; a later run works', async () => {
    let kills = 0;
    for (const call of CALLS_OF[mode]) {
      kills += await forEachFault(
        mode,
        (count) => `${call}:signal=KILL:when=${count}`,
        async (run) => {
          expect(run.report).toBeUndefined();
          await stateOf(mode);
          const store = await openLocalStore(root, { create: false });
          await store.sweep('', () => true);
          expect(await listLeftovers(store)).toEqual([]);
        },
      );
    }
    expect(kills).toBe(mode === 'create' ? 11 : 10);
  }, 60_000);

  it('every system call failed once: an error and the old state, nothing left behind, and no second finish succeeds', async () => {
    for (const call of CALLS_OF[mode]) {
      await forEachFault(
        mode,
        (count) => `${call}:error=EIO:when=${count}`,
        async (run) => {
          const { report } = run;
          expect([report?.put, report?.append, report?.finish]).toContain('STORE_FAILED');
          if (report?.finish !== undefined) expect([report.finish, report.finishAgain]).toEqual(['STORE_FAILED', 'STORE_FAILED']);
          const state = await stateOf(mode);
          // A replaced blob cannot be brought back; a created one is taken back.
          if (mode === 'create' || call !== 'fsync') expect(state).toBe('old');
          if (report?.abort === 'ok') expect(await listLeftovers(await openLocalStore(root, { create: false }))).toEqual([]);
        },
      );
    }
  }, 60_000);

  it('fsync failing from the Nth time on is never success', async () => {
    const faults = await forEachFault(
      mode,
      (count) => `fsync:error=EIO:when=${count}+`,
      async ({ report }) => {
        expect(report?.finish === 'ok' || report?.finishAgain === 'ok').toBe(false);
        await stateOf(mode);
      },
    );
    expect(faults).toBe(4);
  }, 60_000);
});

describe('what an error is called', () => {
  it.each([
    ['pwrite64:error=ENOSPC', 'INSUFFICIENT_STORAGE'],
    ['pwrite64:error=EDQUOT', 'INSUFFICIENT_STORAGE'],
    ['fsync:error=ENOSPC:when=3', 'INSUFFICIENT_STORAGE'],
    ['mkdir:error=ENOSPC', 'INSUFFICIENT_STORAGE'],
    ['mkdir:error=EROFS', 'REPOSITORY_READ_ONLY'],
    ['mkdir:error=EACCES', 'REPOSITORY_READ_ONLY'],
    ['link:error=EROFS', 'REPOSITORY_READ_ONLY'],
    ['pwrite64:error=EFBIG', 'BLOB_TOO_LARGE'],
    ['pwrite64:error=EIO', 'STORE_FAILED'],
  ])('%s is %s', async (rule, code) => {
    const { report } = await runWriter('create', [rule]);
    expect(report?.put === 'ok' ? report.finish : report?.put).toBe(code);
    expect(await stateOf('create')).toBe('old');
  });
});

describe('a file system without hard links', () => {
  const noLinks = 'link:error=EPERM';

  it('creates by a rename that does not replace', async () => {
    const { report, calls } = await runWriter('create', [noLinks]);
    expect(report).toEqual({ put: 'ok', append: 'ok', finish: 'ok' });
    expect(calls.slice(-3)).toEqual(['link vms/a/blob.tmp', 'renameat2 vms/a/blob.tmp', 'fsync vms/a']);
    const { report: second } = await runWriter('create', [noLinks]);
    expect(second).toMatchObject({ finish: 'BLOB_EXISTS', finishAgain: 'BLOB_EXISTS', abort: 'ok' });
    expect(await stateOf('create')).toBe('new');
  });

  it.each([
    ['the kernel has no such rename', ['renameat2:error=EINVAL'], {}],
    ['foreign functions are off', [], { CHAINKEEP_NATIVE: 'off' }],
  ])('is refused, never raced for, when %s', async (_name, rules, env) => {
    const { report } = await runWriter('create', [noLinks, ...rules], env);
    expect(report).toMatchObject({ finish: 'STORE_FAILED', abort: 'ok' });
    expect(report?.message).toContain('neither link nor rename without replacing');
    expect(await stateOf('create')).toBe('old');
    expect(await listLeftovers(await openLocalStore(root, { create: false }))).toEqual([]);
  });
});
