// The small parts under a transfer: whole reads and writes, requests through shared memory, threads that are used again.

import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { EndOfSource, readFully, writeFully } from '../../src/transfer/full-io.ts';
import { giveBackWorker, startWorkersAhead, takeWorker, threadCount } from '../../src/transfer/idle-workers.ts';
import { allocateShared, serve } from '../../src/transfer/served-io.ts';
import type { ServedRequest } from '../../src/transfer/unit.ts';
import { noiseBytes, randomNumbers } from '../repository/model-disk.ts';
import { scratchFolder } from '../repository/scratch-folder.ts';
import { mountTmpfs } from '../store/temporary-mount.ts';
import { openFd } from './transfer-parts.ts';

const scratch = scratchFolder();

describe('reads and writes of a thread', () => {
  it('are never short', () => {
    const bytes = noiseBytes(5000, randomNumbers(1));
    writeFileSync(scratch('read'), bytes);
    const fd = openFd(scratch('read'), 'r');
    const buffer = Buffer.alloc(1000);
    readFully(fd, buffer, 3999);
    expect(buffer.equals(bytes.subarray(3999, 4999))).toBe(true);
    expect(() => readFully(fd, buffer, 4500)).toThrow(EndOfSource);
    expect(() => readFully(fd, buffer, 4500)).toThrow('the source ends at byte 5000');
    expect(() => readFully(fd, buffer, 9000)).toThrow('the source ends at byte 9000');
    readFully(fd, Buffer.alloc(0), 9000);
  });

  it('take any number of buffers', () => {
    const bytes = noiseBytes(5000, randomNumbers(2));
    const fd = openFd(scratch('written'), 'w+');
    const buffers = Array.from({ length: 5000 }, (_, at) => bytes.subarray(at, at + 1)).flatMap((byte) => [byte, Buffer.alloc(0)]);
    writeFully(fd, buffers, 100);
    writeFully(fd, [], 0);
    expect(readFileSync(scratch('written')).subarray(100).equals(bytes)).toBe(true);
  });

  it('go on after a write that was cut short, and fail when the disk is full', (context) => {
    const mount = mountTmpfs('size=64k');
    if (typeof mount === 'string') return context.skip(mount);
    try {
      const fd = openFd(`${mount.path}/file`, 'w+');
      const bytes = noiseBytes(40_000, randomNumbers(3));
      // The first call can write only a part of this; the next one says why.
      const buffers = [bytes.subarray(0, 30_000), bytes.subarray(30_000), bytes];
      expect(() => writeFully(fd, buffers, 0)).toThrow(expect.objectContaining({ code: 'ENOSPC' }));
      const written = readFileSync(`${mount.path}/file`);
      expect(written.length).toBe(65_536);
      expect(written.equals(Buffer.concat([bytes, bytes]).subarray(0, 65_536))).toBe(true);
    } finally {
      mount.dispose();
    }
  });
});

describe('a request to the main thread', () => {
  const CLIENT = `
    const { parentPort, workerData } = require('node:worker_threads');
    import(workerData.module).then(({ ServedClient }) => {
      const client = new ServedClient(workerData.shared, (request) => parentPort.postMessage({ request }));
      parentPort.on('message', ({ op, args }) => {
        try {
          if (op === 'read') {
            const buffer = new Uint8Array(args.length);
            client.read(7, buffer, args.offset);
            parentPort.postMessage({ answer: buffer });
          } else if (op === 'append') parentPort.postMessage({ answer: client.append(args.buffers) });
          else parentPort.postMessage({ answer: client.write(args.buffers, args.offset) });
        } catch (error) {
          parentPort.postMessage({ failed: error.name });
        }
      });
    });`;

  async function ask(
    op: string,
    args: object,
    handlers: Parameters<typeof serve>[2],
    payload = 1000,
  ): Promise<{ answer: unknown; requests: ServedRequest[]; rejected: unknown[] }> {
    const shared = allocateShared(payload);
    const module = new URL('../../src/transfer/served-io.ts', import.meta.url).href;
    const worker = new Worker(CLIENT, { eval: true, workerData: { shared, module } });
    const requests: ServedRequest[] = [];
    const rejected: unknown[] = [];
    try {
      const answer = await new Promise((resolve, reject) => {
        worker.on('error', reject);
        worker.on('message', (message: { request?: ServedRequest; answer?: unknown; failed?: string }) => {
          if (message.request) {
            requests.push(message.request);
            serve(shared, message.request, handlers).catch((error: unknown) => rejected.push(error));
          } else resolve(message.failed ?? message.answer);
        });
        worker.postMessage({ op, args });
      });
      return { answer, requests, rejected };
    } finally {
      await worker.terminate();
    }
  }

  const refuse = async (): Promise<never> => {
    throw new Error('not this');
  };

  it('reads in pieces that fit, appends and writes what was gathered', async () => {
    const bytes = noiseBytes(2500, randomNumbers(4));
    const read = await ask(
      'read',
      { length: 2500, offset: 10 },
      {
        append: refuse,
        write: refuse,
        readsIntoShared: () => false,
        read: async (source, buffer, offset) => {
          expect(source).toBe(7);
          await delay(2);
          buffer.set(bytes.subarray(offset - 10, offset - 10 + buffer.length));
        },
      },
    );
    expect(read.answer).toEqual(Uint8Array.from(bytes));
    expect(read.requests.map((request) => request.length)).toEqual([1000, 1000, 500]);
    const buffers = [bytes.subarray(0, 400), bytes.subarray(400, 1000)];
    const appended = await ask(
      'append',
      { buffers },
      {
        read: refuse,
        readsIntoShared: () => false,
        write: refuse,
        append: async (buffer) => {
          expect(bytes.subarray(0, 1000).equals(buffer)).toBe(true);
          return 2 ** 45 + 3;
        },
      },
    );
    expect(appended.answer).toBe(2 ** 45 + 3);
    const written: number[] = [];
    const wrote = await ask(
      'write',
      { buffers, offset: 99 },
      {
        read: refuse,
        readsIntoShared: () => false,
        append: refuse,
        write: async (buffer, offset) => {
          expect(bytes.subarray(0, 1000).equals(buffer)).toBe(true);
          written.push(offset);
        },
      },
    );
    expect([wrote.answer, written]).toEqual([undefined, [99]]);
  });

  it('that fails wakes the thread, and the reason stays with the main thread', async () => {
    for (const op of ['read', 'append', 'write']) {
      const { answer, rejected } = await ask(
        op,
        { length: 10, offset: 0, buffers: [new Uint8Array(5)] },
        { read: refuse, readsIntoShared: () => false, append: refuse, write: refuse },
      );
      expect(answer).toBe('ServedRequestFailed');
      expect(rejected).toMatchObject([{ message: 'not this' }]);
    }
  });
});

describe('threads that wait', () => {
  it('are started ahead, used again, and not kept when they are too many', async () => {
    startWorkersAhead();
    startWorkersAhead();
    const workers = Array.from({ length: threadCount() + 10 }, () => takeWorker());
    expect(new Set(workers).size).toBe(workers.length);
    for (const worker of workers) giveBackWorker(worker);
    const again = Array.from({ length: 8 }, () => takeWorker());
    expect(again.every((worker) => workers.includes(worker))).toBe(true);
    const [gone, ...others] = again;
    for (const worker of others) giveBackWorker(worker);
    if (gone) {
      giveBackWorker(gone);
      await gone.terminate();
    }
    const rest = Array.from({ length: 7 }, () => takeWorker());
    expect(rest).not.toContain(gone);
    await Promise.all(rest.map((worker) => worker.terminate()));
  });

  it('do not keep a process alive', () => {
    const script = `
      import { startWorkersAhead } from ${JSON.stringify(new URL('../../src/transfer/idle-workers.ts', import.meta.url).href)};
      startWorkersAhead();`;
    writeFileSync(scratch('ahead.mjs'), script);
    execFileSync(process.execPath, [scratch('ahead.mjs')], { timeout: 20_000, stdio: 'pipe' });
  });
});
