// The sink of object stores over a target in memory: order of parts, memory, failures. The stores themselves run the conformance suite.

import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { ChainkeepError } from '../../../src/plumbing/errors.ts';
import type { UploadSettings } from '../../../src/store/blob-store.ts';
import { openPartSink, type PartTarget } from '../../../src/store/object/part-sink.ts';
import { type PartLimits, planParts } from '../../../src/store/part-plan.ts';
import { codeOf, patternBytes } from '../../../src/store/testing/store-probe.ts';

const LIMITS: PartLimits = {
  minPartSize: 5 * 2 ** 20,
  maxPartSize: 5 * 2 ** 30,
  maxParts: 10_000,
  maxBlobSize: 5 * 2 ** 40,
  equalParts: false,
};
const SETTINGS: UploadSettings = { partSize: 16 * 2 ** 20, concurrency: 4, memory: 192 * 2 ** 20 };
const MIB = 2 ** 20;

interface Recorder extends PartTarget {
  readonly parts: Map<number, Buffer>;
  blob: Buffer | undefined;
  calls: string[];
  most: number;
}

function recorder(fail: (number: number) => boolean = () => false): Recorder {
  let running = 0;
  const target: Recorder = {
    parts: new Map(),
    blob: undefined,
    calls: [],
    most: 0,
    putWhole: async (content) => {
      target.calls.push('whole');
      target.blob = Buffer.from(content);
    },
    uploadPart: async (number, content, signal) => {
      running += 1;
      target.most = Math.max(target.most, running);
      target.calls.push(`part ${number}`);
      await sleep(2);
      running -= 1;
      if (signal.aborted) throw new ChainkeepError('CANCELLED', 'cancelled');
      if (fail(number)) throw new ChainkeepError('STORE_FAILED', `part ${number} failed`);
      target.parts.set(number, Buffer.from(content));
    },
    complete: async (count, size) => {
      target.calls.push(`complete ${count}`);
      target.blob = Buffer.concat(Array.from({ length: count }, (_, index) => target.parts.get(index + 1) ?? Buffer.alloc(0)));
      expect(target.blob.length).toBe(size);
    },
    abort: async () => {
      target.calls.push('abort');
    },
  };
  return target;
}

describe('planned parts', () => {
  it('a small blob has the parts of the settings, and its first part is as small as the server takes', () => {
    const plan = planParts(LIMITS, SETTINGS, { headLength: 300_000, mostBytes: 50 * 2 ** 30 }, 'a');
    expect(plan).toMatchObject({ firstPartSize: 5 * MIB, partSize: 16 * MIB, concurrency: 4 });
    expect(plan.memory).toBe(5 * MIB + 5 * 16 * MIB);
  });

  it('600 GiB fit in the memory of the settings, and their parts in what the server counts', () => {
    const plan = planParts(LIMITS, SETTINGS, { headLength: 64 * 1024, mostBytes: 600 * 2 ** 30 }, 'a');
    expect(plan.memory).toBeLessThanOrEqual(SETTINGS.memory);
    expect(plan.maxBytes).toBeGreaterThanOrEqual(600 * 2 ** 30);
    expect(plan.concurrency).toBe(2);
  });

  it('what the store cannot hold is refused with both numbers', () => {
    const error = (() => {
      try {
        return planParts(LIMITS, SETTINGS, { mostBytes: 6 * 2 ** 40 }, 'a');
      } catch (caught) {
        return caught;
      }
    })();
    expect(error).toMatchObject({ code: 'BLOB_TOO_LARGE', context: { required_bytes: 6 * 2 ** 40, limit_bytes: 5 * 2 ** 40 } });
    const thousand = { ...LIMITS, maxParts: 1000, maxPartSize: 100 * MIB };
    expect(() => planParts(thousand, SETTINGS, { mostBytes: 200 * 2 ** 30 }, 'a')).toThrow(/holds at most 104857600000/);
  });

  it('a store of equal parts has equal parts', () => {
    const plan = planParts({ ...LIMITS, equalParts: true }, SETTINGS, { headLength: 1, mostBytes: 300 * 2 ** 30 }, 'a');
    expect(plan.firstPartSize).toBe(plan.partSize);
    expect(plan.maxBytes).toBeGreaterThanOrEqual(300 * 2 ** 30);
  });
});

describe('the sink', () => {
  const small = { ...LIMITS, minPartSize: 1024 };
  const settings = { partSize: 4096, concurrency: 3, memory: 10 * 4096 };
  // Parts are rounded to MiB for large blobs; without an upper bound the settings are taken as they are.
  const plan = planParts(small, settings, { headLength: 1 }, 'a');

  it('sends parts while it is written, the head with the first part and last', async () => {
    const target = recorder();
    const sink = openPartSink('a', 100, plan, target);
    const bytes = patternBytes(50_000);
    const offsets: number[] = [];
    for (let at = 0; at < bytes.length; at += 777) offsets.push(await sink.append([bytes.subarray(at, at + 777)]));
    expect(offsets).toEqual(Array.from({ length: offsets.length }, (_, index) => 100 + index * 777));
    const sent = target.calls.length;
    expect(sent).toBeGreaterThan(8);
    expect(target.calls).not.toContain('part 1');
    const head = patternBytes(100, 7);
    expect(await sink.finish(head)).toEqual({ size: 50_100 });
    expect(target.blob?.equals(Buffer.concat([head, bytes]))).toBe(true);
    expect(target.most).toBe(3);
    expect(target.calls.at(-1)).toBe('complete 13');
  });

  it('a small blob is one request, also one without bytes', async () => {
    for (const length of [0, 1, 1000, 1024]) {
      const target = recorder();
      const sink = openPartSink('a', 0, plan, target);
      await sink.append([patternBytes(length)]);
      await sink.finish(new Uint8Array(0));
      expect(target.blob?.equals(patternBytes(length))).toBe(true);
      expect(target.calls).toEqual(['whole']);
    }
  });

  it('a head longer than the first parts', async () => {
    const target = recorder();
    const sink = openPartSink('a', 9000, plan, target);
    await sink.append([patternBytes(20_000)]);
    await sink.finish(patternBytes(9000, 3));
    expect(target.blob?.equals(Buffer.concat([patternBytes(9000, 3), patternBytes(20_000)]))).toBe(true);
    const alone = recorder();
    await openPartSink('b', 9000, plan, alone).finish(patternBytes(9000, 3));
    expect(alone.blob?.equals(patternBytes(9000, 3))).toBe(true);
  });

  it('who appends waits for the network: no more parts are taken than may be on their way', async () => {
    const target = recorder();
    const gate = Promise.withResolvers<void>();
    let taken = 0;
    const slow: PartTarget = {
      ...target,
      uploadPart: async (number, content, signal) => {
        await gate.promise;
        await target.uploadPart(number, content, signal);
      },
    };
    const sink = openPartSink('a', 0, plan, slow);
    const writing = (async () => {
      for (let index = 0; index < 100; index += 1) {
        await sink.append([patternBytes(1000, index)]);
        taken += 1000;
      }
    })();
    await sleep(50);
    expect(taken).toBeLessThanOrEqual(plan.memory);
    expect(taken).toBeGreaterThan(4096);
    gate.resolve();
    await writing;
    expect(await sink.finish(new Uint8Array(0))).toEqual({ size: 100_000 });
    expect(target.blob?.length).toBe(100_000);
  });

  it('the first failure is the answer to everything, and abort takes back', async () => {
    const target = recorder((number) => number === 3);
    const sink = openPartSink('a', 0, plan, target);
    const failed = async (): Promise<void> => {
      for (let index = 0; index < 100; index += 1) await sink.append([patternBytes(1000)]);
    };
    expect(await codeOf(failed())).toBe('STORE_FAILED');
    expect(await codeOf(sink.append([patternBytes(1)]))).toBe('STORE_FAILED');
    expect(await codeOf(sink.finish(new Uint8Array(0)))).toBe('STORE_FAILED');
    await sink.abort();
    await sink.abort();
    expect(target.calls.filter((call) => call === 'abort')).toEqual(['abort']);
    expect(target.blob).toBeUndefined();
  });

  it('an append that waits for the network is cancelled by the abort of its writer', async () => {
    const target = recorder();
    const hanging: PartTarget = { ...target, uploadPart: async (_number, _content, signal) => void (await once(signal, 'abort')) };
    const sink = openPartSink('a', 0, plan, hanging);
    const waiting = codeOf(sink.append([patternBytes(100_000)]));
    await sleep(10);
    await sink.abort();
    expect(await waiting).toBe('CANCELLED');
  });

  it('a blob that outgrows the parts fails while it is written', async () => {
    const sink = openPartSink('a', 0, { ...plan, maxBytes: 5000 }, recorder());
    await sink.append([patternBytes(5000)]);
    expect(await codeOf(sink.append([patternBytes(1)]))).toBe('BLOB_TOO_LARGE');
  });
});
