// Conformance of stores: how a blob comes to be, and how it does not.

import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';
import { listNames, writeBlob } from '../trial.ts';
import type { Subject } from './conformance.ts';
import type { DirectWriterInput } from './direct-writer.ts';
import { codeOf, listLeftovers, patternBytes, readBlob } from './store-probe.ts';

const EMPTY = new Uint8Array(0);

export function writingBehaviours(subject: Subject): void {
  it.each([0, 1, 4095, 4097, 3 * 1024 * 1024 + 7])('a blob of %i bytes reads as it was written', async (size) => {
    const { store } = subject();
    const bytes = patternBytes(size);
    await writeBlob(store, 'vms/a/disk-0/blob.bin', bytes);
    expect(Buffer.compare(await readBlob(store, 'vms/a/disk-0/blob.bin'), bytes)).toBe(0);
    expect((await store.stat('vms/a/disk-0/blob.bin'))?.size).toBe(size);
  });

  it('appends follow each other and the head goes in front', async () => {
    const { store } = subject();
    const sink = await store.put('image', { headLength: 5 });
    expect(await sink.append([Buffer.from('one,'), Buffer.from('two,')])).toBe(5);
    expect(await sink.append([])).toBe(13);
    expect(await sink.append([EMPTY, Buffer.from('three'), EMPTY])).toBe(13);
    expect(await sink.finish(Buffer.from('head:'))).toEqual({ size: 18 });
    expect((await readBlob(store, 'image')).toString()).toBe('head:one,two,three');
  });

  it('a head alone is a blob', async () => {
    const { store } = subject();
    const sink = await store.put('head', { headLength: 4 });
    expect(await sink.finish(Buffer.from('only'))).toEqual({ size: 4 });
    expect((await readBlob(store, 'head')).toString()).toBe('only');
  });

  it('a blob does not exist before finish', async () => {
    const { store } = subject();
    const sink = await store.put('a/b', { headLength: 1 });
    await sink.append([Buffer.from('x')]);
    expect(await store.stat('a/b')).toBeUndefined();
    expect(await listNames(store)).toEqual([]);
    expect(await codeOf(store.open('a/b'))).toBe('BLOB_NOT_FOUND');
    await sink.finish(Buffer.from('h'));
    expect(await listNames(store)).toEqual(['a/b']);
  });

  it('a head of another length than announced is refused', async () => {
    const { store } = subject();
    const sink = await store.put('a', { headLength: 4 });
    expect(await codeOf(sink.finish(Buffer.from('abc')))).toBe('INTERNAL');
    await sink.abort();
    const plain = await store.put('a');
    expect(await codeOf(plain.finish(Buffer.from('abc')))).toBe('INTERNAL');
    await plain.abort();
    expect([...(await listNames(store)), ...(await listLeftovers(store))]).toEqual([]);
  });

  it('64 overlapping appends are 64 contiguous runs, none over another', async () => {
    const { store } = subject();
    const sink = await store.put('parallel', { headLength: 100 });
    const runs = Array.from({ length: 64 }, (_, index) => patternBytes(1 + index * 977, index + 1));
    const offsets = await Promise.all(runs.map((run) => sink.append([run.subarray(0, run.length >> 1), run.subarray(run.length >> 1)])));
    await sink.finish(patternBytes(100, 99));
    const bytes = await readBlob(store, 'parallel');
    expect(bytes.length).toBe(100 + runs.reduce((sum, run) => sum + run.length, 0));
    for (const [index, run] of runs.entries()) {
      const offset = offsets[index] ?? -1;
      expect(Buffer.compare(bytes.subarray(offset, offset + run.length), run), `run ${index}`).toBe(0);
    }
  });

  it('one append may be of thousands of buffers', async () => {
    const { store } = subject();
    const bytes = patternBytes(5000);
    const sink = await store.put('many');
    await sink.append(Array.from({ length: 5000 }, (_, index) => bytes.subarray(index, index + 1)));
    await sink.finish(EMPTY);
    expect(Buffer.compare(await readBlob(store, 'many'), bytes)).toBe(0);
  });

  it('worker threads claim and write by themselves, beside appends', async ({ skip }) => {
    const { store } = subject();
    const sink = await store.put('direct', { headLength: 3 });
    const direct = sink.direct;
    if (!direct) {
      await sink.abort();
      return skip('this store gives no descriptors');
    }
    const input = { direct: { fd: direct.fd, next: direct.next }, runs: 50, runLength: 4099 };
    const fills = [1, 2, 3];
    const work = fills.map((fill) => runDirectWriter({ ...input, fill }));
    const own = await sink.append([patternBytes(10_000)]);
    const offsets = await Promise.all(work);
    await sink.finish(Buffer.from('top'));
    const bytes = await readBlob(store, 'direct');
    expect(bytes.length).toBe(3 + 10_000 + 3 * 50 * 4099);
    expect(Buffer.compare(bytes.subarray(own, own + 10_000), patternBytes(10_000))).toBe(0);
    for (const [index, fill] of fills.entries()) {
      for (const offset of offsets[index] ?? []) expect(bytes.subarray(offset, offset + 4099).every((byte) => byte === fill)).toBe(true);
    }
  });

  it('finish is refused when claimed bytes were not written', async ({ skip }) => {
    const { store } = subject();
    const sink = await store.put('hole', { ifAbsent: true });
    await sink.append([Buffer.from('data')]);
    if (!sink.direct) {
      await sink.abort();
      return skip('this store gives no descriptors');
    }
    Atomics.add(sink.direct.next, 0, 4096n);
    expect(await codeOf(sink.finish(EMPTY))).toBe('STORE_FAILED');
    expect(await codeOf(sink.finish(EMPTY))).toBe('STORE_FAILED');
    expect(await codeOf(sink.append([Buffer.from('x')]))).toBe('STORE_FAILED');
    await sink.abort();
    expect([...(await listNames(store)), ...(await listLeftovers(store))]).toEqual([]);
  });

  it('finish is refused when a thread says that its write failed', async ({ skip }) => {
    const { store } = subject();
    const sink = await store.put('failed');
    await sink.append([Buffer.from('data')]);
    if (!sink.direct) {
      await sink.abort();
      return skip('this store gives no descriptors');
    }
    const answer = await sink.direct.fail(Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' }));
    expect(answer).toMatchObject({ code: 'INSUFFICIENT_STORAGE' });
    await expect(sink.finish(EMPTY)).rejects.toBe(answer);
    await sink.abort();
    expect([...(await listNames(store)), ...(await listLeftovers(store))]).toEqual([]);
  });

  it('abort leaves nothing, at any time and twice', async () => {
    const { store } = subject();
    await (await store.put('never')).abort();
    const busy = await store.put('x/busy', { headLength: 8 });
    const appends = Array.from({ length: 8 }, () => busy.append([patternBytes(500_000)]));
    const aborted = busy.abort();
    await Promise.allSettled(appends);
    await aborted;
    await busy.abort();
    expect([...(await listNames(store)), ...(await listLeftovers(store))]).toEqual([]);
    await expect(busy.append([Buffer.from('late')])).rejects.toThrow();
    await expect(busy.finish(new Uint8Array(8))).rejects.toThrow();
  });

  it('abort after a finished write changes nothing', async () => {
    const { store } = subject();
    const sink = await store.put('done', { ifAbsent: true });
    await sink.append([Buffer.from('kept')]);
    await sink.finish(EMPTY);
    await sink.abort();
    expect((await readBlob(store, 'done')).toString()).toBe('kept');
  });

  it('a put that surely does not fit is refused at once', async ({ skip }) => {
    const { store } = subject();
    const room = await store.capacity();
    if (!room) return skip('this store does not tell its capacity');
    expect(await codeOf(store.put('huge', { expectedSize: room.availableBytes * 2 + 1e9 }))).toBe('INSUFFICIENT_STORAGE');
    expect(await listLeftovers(store)).toEqual([]);
  });
}

async function runDirectWriter(input: DirectWriterInput): Promise<readonly number[]> {
  const worker = new Worker(new URL('./direct-writer.ts', import.meta.url), { workerData: input });
  // Both at once: a thread that ends right behind its message would not be heard by who begins to listen after it.
  const [[offsets]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')]);
  return offsets;
}
