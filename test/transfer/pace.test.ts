// Threads with descriptors of their own are slowed by the work they are given, where a store asks for it; a failure and a cancellation do not wait.

import { writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { openFileSource } from '../../src/plumbing/file-source.ts';
import type { Unit } from '../../src/transfer/unit.ts';
import { noiseBytes, randomNumbers } from '../repository/model-disk.ts';
import { scratchFolder } from '../repository/scratch-folder.ts';
import { directSink, run, sourceList } from './transfer-parts.ts';

const scratch = scratchFolder();
const MIB = 1 << 20;
const UNITS = 40;

async function scene() {
  const path = scratch('source');
  writeFileSync(path, noiseBytes(UNITS * MIB, randomNumbers(1)));
  const units: Unit[] = Array.from({ length: UNITS }, (_, seq) => ({
    seq,
    offset: seq * MIB,
    length: MIB,
    pieces: Float64Array.from([0, MIB, 0, seq * MIB, 0, 0, 0]),
  }));
  const source = await openFileSource(path);
  return { units, source, target: directSink(scratch('image'), 65_536), options: { clusterSize: 65_536, threads: 2 } };
}

it('no thread gets work while the sink says wait, nor while a source does, and all of it is done then', async () => {
  const { units, source, target, options } = await scene();
  const gates: (() => void)[] = [];
  const gate = (): Promise<void> => new Promise((resolve) => gates.push(resolve));
  let reads = 0;
  const paced = {
    name: source.name,
    size: source.size,
    ...(source.fd !== undefined && { fd: source.fd }),
    read: source.read.bind(source),
    close: source.close.bind(source),
    pace: (bytes: number) => {
      reads += bytes;
      return reads > 20 * MIB ? gate() : undefined;
    },
  };
  const { direct } = target.sink;
  if (!direct) throw new Error('there is no descriptor');
  const sink = { ...target.sink, direct: { ...direct, pace: () => (Number(target.next[0]) > 8 * MIB ? gate() : undefined) } };
  const running = run(units, { ...options, sources: sourceList(paced), output: { kind: 'image', sink, compression: 'none', level: 0 } });
  let ended = false;
  const watched = running.then((ran) => {
    ended = true;
    return ran;
  });
  let most = 0;
  for (let step = 0; !ended && step < 2000; step += 1) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    if (gates.length === 0) continue;
    expect(ended).toBe(false);
    most = Math.max(most, Number(target.next[0]));
    for (const open of gates.splice(0)) open();
  }
  expect((await watched).results.length).toBe(UNITS);
  expect(reads).toBe(UNITS * MIB);
  expect(most).toBeGreaterThan(0); // it was held up, and not only at its end
  await source.close();
});

it('what is cancelled, or has failed, does not wait for the pace', async () => {
  const { units, source, target, options } = await scene();
  const { direct } = target.sink;
  if (!direct) throw new Error('there is no descriptor');
  const stop = new AbortController();
  const sink = {
    ...target.sink,
    direct: {
      ...direct,
      pace: () => {
        setTimeout(() => stop.abort(), 50);
        return new Promise<void>(() => undefined);
      },
    },
  };
  const output = { kind: 'image', sink, compression: 'none', level: 0 } as const;
  await expect(run(units, { ...options, sources: sourceList(source), output, signal: stop.signal })).rejects.toMatchObject({
    code: 'CANCELLED',
  });
  await source.close();
});
