// Protection of a local store where the immutable attribute cannot be set: mode bits, and our own refusal. And what an attribute of somebody else's is.

import { execFileSync } from 'node:child_process';
import { chmod, mkdtemp, rm, stat, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { BlobStore } from '../../src/store/blob-store.ts';
import { openLocalStore } from '../../src/store/local/local-store.ts';
import { protectionBehaviours } from '../../src/store/testing/conformance-protection.ts';
import { codeOf, readBlob } from '../../src/store/testing/store-probe.ts';
import { writeBlob } from '../../src/store/trial.ts';

vi.stubEnv('CHAINKEEP_NATIVE', 'off'); // for this process; those that it starts have the attribute

let path: string;
let store: BlobStore;

beforeEach(async () => {
  path = await mkdtemp('/dev/shm/chainkeep-mode-');
  store = await openLocalStore(path, { create: false });
});
afterEach(async () => {
  for await (const { name } of store.list('')) await store.release(name);
  await rm(path, { recursive: true });
});

describe('without the foreign functions', () => {
  it('the store says that it has only mode bits', () => {
    expect(store.capabilities).toMatchObject({ retention: 'advisory', retentionMark: 'mode' });
  });
  describe('protection', () => protectionBehaviours(() => ({ store, dispose: async () => undefined })));
});

/** Root without the right to set the attribute. */
const WITHOUT_RIGHT = ['setpriv', '--bounding-set', '-linux_immutable', '--inh-caps', '-linux_immutable'];
const SCRIPT = new URL('./protecting-process.ts', import.meta.url).pathname;

function act(how: readonly string[], ...actions: readonly string[]): string {
  const [program = '', ...args] = [...how, process.execPath, SCRIPT, path, 'a', ...actions];
  return execFileSync(program, args, { encoding: 'utf8', env: { PATH: process.env.PATH } }).trim();
}

describe('in processes of their own', () => {
  it('with the right the kernel keeps the file, also against root; who has no right cannot take it off', async () => {
    await writeBlob(store, 'a', 'kept');
    expect(act([], 'protect', 'delete')).toBe('attribute: protect done, delete IMMUTABLE_RETENTION_ACTIVE');
    await expect(unlink(join(path, 'a'))).rejects.toThrow('EPERM');
    await expect(writeFile(join(path, 'a'), 'other')).rejects.toThrow('EPERM');
    expect(act(WITHOUT_RIGHT, 'protect', 'release', 'delete')).toBe(
      'mode: protect done, release REPOSITORY_READ_ONLY, delete IMMUTABLE_RETENTION_ACTIVE',
    );
    expect((await readBlob(store, 'a')).toString()).toBe('kept');
    expect(act([], 'release', 'delete', 'release')).toBe('attribute: release done, delete done, release done');
  });

  it('without the right there are mode bits and our refusal', async () => {
    await writeBlob(store, 'a', 'kept');
    expect(act(WITHOUT_RIGHT, 'protect', 'delete', 'release')).toBe('mode: protect done, delete IMMUTABLE_RETENTION_ACTIVE, release done');
    expect((await stat(join(path, 'a'))).mode & 0o777).toBe(0o600);
  });

  it('an attribute that somebody else has set is not ours to take off', async () => {
    await writeBlob(store, 'a', 'kept');
    execFileSync('chattr', ['+i', join(path, 'a')]);
    expect(act([], 'release', 'delete')).toBe('attribute: release done, delete REPOSITORY_READ_ONLY');
    execFileSync('chattr', ['-i', join(path, 'a')]);
    await store.delete('a');
  });

  it('a protection that is half gone counts as gone where the attribute can be set, and comes back', async () => {
    await writeBlob(store, 'a', 'kept');
    act([], 'protect');
    execFileSync('chattr', ['-i', join(path, 'a')]);
    const attribute = await openLocalStore(path, { create: false });
    expect(await store.protectionOf('a')).toEqual({}); // this process knows mode bits alone
    expect(await codeOf(attribute.delete('a'))).toBe('IMMUTABLE_RETENTION_ACTIVE');
    await chmod(join(path, 'a'), 0o600);
    expect(await store.protectionOf('a')).toBeUndefined();
    act([], 'protect');
    await expect(unlink(join(path, 'a'))).rejects.toThrow('EPERM');
    act([], 'release');
  });
});
