// The list of store kinds: settings are checked once, kinds that there are not are refused, and opening loads no schema library.

import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { parseStoreConfig } from '../../src/store/parse-config.ts';
import { loadStoreKind, openStore } from '../../src/store/registry.ts';
import { codeOf } from '../../src/store/testing/store-probe.ts';

it('settings of a local repository are an absolute path and nothing else', async () => {
  expect((await parseStoreConfig('local', { settings: { path: '/backup' } })).config).toEqual({ path: '/backup' });
  for (const config of [{}, { path: 'relative' }, { path: 7 }, { path: '/a\0b' }, { path: '/a', extra: 1 }]) {
    expect(await codeOf(parseStoreConfig('local', { config })), JSON.stringify(config)).toBe('CONFIG_INVALID');
  }
  await expect(parseStoreConfig('local', { config: { path: 'x', extra: 1 } })).rejects.toThrow(/path: must be an absolute path.*extra/);
  expect(await codeOf(openStore('local', { path: 7 }, { create: false }))).toBe('CONFIG_INVALID');
});

it('kinds that there are not are refused with the list', async () => {
  for (const type of ['ftp', '', 'LOCAL', '__proto__', 'constructor'])
    expect(await codeOf(loadStoreKind(type)), type).toBe('CONFIG_INVALID');
});

it('opening a registered store loads no zod, and no client of a cloud', async () => {
  const path = await mkdtemp(join(tmpdir(), 'chainkeep-registry-'));
  const registry = new URL('../../src/store/registry.ts', import.meta.url).href;
  const parser = new URL('../../src/store/parse-config.ts', import.meta.url).href;
  const script = `
    import { registerHooks } from 'node:module';
    const asked = [];
    registerHooks({ resolve: (name, context, next) => (asked.push(name), next(name, context)) });
    const { openStore } = await import(${JSON.stringify(registry)});
    const config = ${JSON.stringify({ path })};
    await openStore('local', config, { create: false });
    const before = asked.filter((name) => /zod|koffi|@azure/.test(name)).length;
    await (await import(${JSON.stringify(parser)})).parseStoreConfig('local', { config });
    console.log(before, asked.includes('zod'));`;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], { timeout: 20_000 });
  expect(stdout.trim()).toBe('0 true');
  await rm(path, { recursive: true });
});
