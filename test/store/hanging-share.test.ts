// A file server that stops answering ('smbd', stopped, behind 'smbnetfs'): calls on its share hang in a way that not even a kill ends. The process that
// uses the store does not: its own calls go on, it is told in time, and it works again when the server does.

import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { isChainkeepError } from '../../src/plumbing/errors.ts';
import { abandonedProcesses } from '../../src/store/mounted/storage-child.ts';
import { openStore } from '../../src/store/registry.ts';
import { codeOf, patternBytes, readBlob } from '../../src/store/testing/store-probe.ts';
import { listNames, writeBlob } from '../../src/store/trial.ts';
import { mountSmbnetfs, type Smbd, type SmbMount, startSmbd } from '../servers/smbd.ts';

const folder = mkdtempSync(join(tmpdir(), 'chainkeep-smb-'));
const undo: (() => Promise<void> | void)[] = [() => rmSync(folder, { recursive: true })];
let server: Smbd;
let mount: SmbMount;

beforeAll(async () => {
  server = await startSmbd(folder);
  undo.push(server.stop);
  mount = await mountSmbnetfs(folder, server);
  undo.push(mount.stop);
});
afterAll(async () => {
  for (const step of undo.toReversed()) await step();
});

const settings = () => ({
  server: server.address,
  share_name: 'bk',
  mount_point: mount.path,
  system_mount: `fuse.smbnetfs smbnetfs/${server.address}/bk`,
  time_limit_seconds: 5,
});

function codeOfError(error: unknown): string {
  return isChainkeepError(error) ? error.code : String(error);
}

it('it is offline in time, at once after that, and back when it answers again', async () => {
  const store = await openStore('smb', settings(), { create: false });
  await writeBlob(store, 'kept', patternBytes(300_000));
  const sink = await store.put('lost');
  await sink.append([patternBytes(10_000)]);
  const source = await store.open('kept');
  server.freeze();
  try {
    const start = Date.now();
    // More calls than a process has threads for them.
    const calls = [
      sink.append([patternBytes(3_000_000)]),
      source.read(new Uint8Array(300_000), 0),
      listNames(store),
      store.stat('kept'),
      store.stat('other'),
      store.delete('x/y'),
      store.put('another'),
      store.open('kept'),
      store.sweep('', () => true),
    ];
    const codes = Promise.all(calls.map((call) => call.then(() => 'answered from a cache', codeOfError)));
    const own = await Promise.all(Array.from({ length: 16 }, () => readFile(new URL(import.meta.url))));
    expect(Date.now() - start, 'calls of this process while the share hangs').toBeLessThan(4000);
    expect(own.length).toBe(16);
    expect(['answered from a cache', 'REPOSITORY_OFFLINE']).toEqual(expect.arrayContaining(await codes));
    expect((await codes)[0]).toBe('REPOSITORY_OFFLINE');
    expect(Date.now() - start).toBeLessThan(40_000);
    expect(abandonedProcesses()).toBe(1); // it cannot be killed, and is not waited for
    const again = Date.now();
    expect(await codeOf(store.stat('kept'))).toBe('REPOSITORY_OFFLINE');
    expect(Date.now() - again).toBeLessThan(3000);
  } finally {
    server.thaw();
  }
  await sleep(2500); // the pause after a failure
  expect((await readBlob(store, 'kept')).equals(patternBytes(300_000))).toBe(true);
  for (let waited = 0; abandonedProcesses() > 0 && waited < 20_000; waited += 50) await sleep(50);
  expect(abandonedProcesses()).toBe(0);
  expect(await codeOf(sink.append([patternBytes(1)]))).toBe('REPOSITORY_OFFLINE');
  await source.close();
  await store.close();
  expect(readdirSync(server.share).filter((name) => !name.includes('.tmp-'))).toEqual(['kept']);
}, 120_000);
