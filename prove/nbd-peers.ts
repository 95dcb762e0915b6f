// NBD between a client and a server of ours, with something wrong on the way: a bit, an end, words said twice, rubbish. A client never takes wrong bytes
// for right ones (but for the very bit that was changed in its data), nobody hangs or crashes, and a server goes on for the others.

import { join } from 'node:path';
import { type NbdReader, openNbdReader } from '../src/nbd/client/nbd-reader.ts';
import { openNbdWriter } from '../src/nbd/client/nbd-writer.ts';
import { type NbdServer, openNbdServer } from '../src/nbd/server/nbd-server.ts';
import { isChainkeepError } from '../src/plumbing/errors.ts';
import type { Campaign } from './campaign.ts';
import { withMemoryFolder } from './memory-folder.ts';
import { type KnownDisk, makeKnownDisk } from './nbd-peers/known-disk.ts';
import { type MutatingProxy, openMutatingProxy, planMutation } from './nbd-peers/mutating-proxy.ts';
import type { Random } from './random.ts';

const SIZE = 512 * 1024;
const LIMITS = { connectWithin: 1000, answerWithin: 500, reconnectWithin: 0 };
/** Longer than all limits of a case together, on a busy machine. */
const HANGS_AFTER_MS = 60_000;
const STYLES = ['simple', 'structured', 'extended'] as const;
/** How a client may end; anything else is a fault of ours. */
const ENDS = [
  'NBD_PROTOCOL',
  'CONNECTION_FAILED',
  'EXPORT_NOT_FOUND',
  'EXPORT_REFUSED',
  'DISK_SIZE_INVALID',
  'SOURCE_UNREADABLE',
  'TARGET_FAILED',
  'INSUFFICIENT_STORAGE',
  'TARGET_TOO_SMALL',
] as const;

export const nbdPeers: Campaign = {
  name: 'nbd-peers',
  about: 'NBD with bits changed, cut off, repeated and mixed with rubbish: right bytes or an error, no hang, no crash',
  small: 150,
  large: 30_000,
  run: (trial) =>
    withMemoryFolder(async (folder) => {
      const disk = makeKnownDisk(SIZE, trial.random(-1));
      const path = join(folder, 'server');
      const exports = [{ name: 'disk', disk }];
      const server: NbdServer = await openNbdServer({ listen: { kind: 'unix', path }, exports, listing: true });
      try {
        for (const number of trial.cases()) trial.ran(number, await attack({ folder, path, server, disk, number }, trial.random(number)));
      } finally {
        await server.close();
      }
    }),
};

interface Scene {
  readonly folder: string;
  readonly path: string;
  readonly server: NbdServer;
  readonly disk: KnownDisk;
  readonly number: number;
}

async function attack({ folder, path, server, disk, number }: Scene, random: Random): Promise<string[]> {
  const mutation = planMutation(random);
  const proxy = await openMutatingProxy(join(folder, `${number}`), path, mutation, random);
  const what = `${mutation.kind} ${mutation.direction} after ${mutation.after}`;
  let timer: NodeJS.Timeout | undefined;
  const hang = new Promise<string[]>((resolve) => {
    timer = setTimeout(() => resolve([`${what}: it hangs`]), HANGS_AFTER_MS);
  });
  try {
    const faults = await Promise.race([random.chance(0.75) ? readThrough(proxy, disk, random) : writeThrough(proxy, server, random), hang]);
    return [...faults.map((fault) => `${what}: ${fault}`), ...(await checkOthers(path, disk))];
  } finally {
    clearTimeout(timer);
    await proxy.close();
  }
}

async function readThrough(proxy: MutatingProxy, disk: KnownDisk, random: Random): Promise<string[]> {
  let reader: NbdReader | undefined;
  const headers = random.pick(STYLES);
  try {
    reader = await openNbdReader(`nbd+unix:///disk?socket=${proxy.path}`, {
      ...LIMITS,
      headers,
      connections: random.between(1, 3),
    });
    if (reader.size !== disk.size) return flipMayExplain(proxy, `a size of ${reader.size}`);
    const faults: string[] = [];
    for (let round = 0; round < 4; round++)
      faults.push(...(await readOnce(reader, disk, { ...proxy, simple: headers === 'simple' }, random)));
    return faults;
  } catch (error) {
    return judgeEnd(error);
  } finally {
    await reader?.close();
  }
}

async function readOnce(
  reader: NbdReader,
  disk: KnownDisk,
  proxy: MutatingProxy & { readonly simple: boolean },
  random: Random,
): Promise<string[]> {
  const offset = random.below(SIZE);
  const length = random.between(1, SIZE - offset);
  if (random.chance(0.4)) {
    let reached = offset;
    const faults: string[] = [];
    for await (const extent of reader.extents({ offset, length })) {
      if (extent.offset !== reached) faults.push(`an extent at ${extent.offset}, expected at ${reached}`);
      reached = extent.offset + extent.length;
      const isZero = disk.bytes.subarray(extent.offset, reached).every((byte) => byte === 0);
      if (extent.kind !== 'data' && !isZero) faults.push(...flipMayExplain(proxy, `data called ${extent.kind} at ${extent.offset}`));
    }
    return reached === offset + length ? faults : [...faults, `extents end at ${reached}, not at ${offset + length}`];
  }
  const buffer = Buffer.alloc(length, 0xdb);
  await reader.read(buffer, offset);
  const expected = disk.bytes.subarray(offset, offset + length);
  if (buffer.equals(expected)) return [];
  const wrong: number[] = [];
  for (let at = 0; at < length; at++) if (buffer[at] !== expected[at]) wrong.push(at);
  if (wrong.length === 1 && proxy.flipped.includes(buffer[wrong[0] ?? 0] ?? -1)) return [];
  const fault = `${wrong.length} of ${length} bytes at ${offset} are wrong`;
  // A simple reply does not say where its bytes come from: a request that was changed on its way is answered with others.
  return proxy.simple && proxy.mutation.direction === 'to server' ? flipMayExplain(proxy, fault) : [fault];
}

/** One changed bit in a number that nothing protects (a size, a flag) is believed: over NBD without TLS there is no way to know. */
function flipMayExplain(proxy: MutatingProxy, fault: string): string[] {
  return proxy.flipped.length > 0 ? [] : [fault];
}

async function writeThrough(proxy: MutatingProxy, server: NbdServer, random: Random): Promise<string[]> {
  const target = makeKnownDisk(SIZE, random);
  const expected = Buffer.from(target.bytes);
  server.addExport({ name: 'rw', disk: target, changes: target });
  try {
    await writeSome(proxy, expected, random);
    await server.removeExport('rw');
    // Where only answers were changed, and where it was cut off, the server has heard nothing but what was said.
    const heard = proxy.mutation.direction === 'to client' || proxy.mutation.kind === 'cut';
    return heard && !target.bytes.equals(expected) ? ['FALSE SUCCESS: the target has other bytes than were written'] : [];
  } catch (error) {
    return judgeEnd(error);
  } finally {
    await server.removeExport('rw');
  }
}

/** `expected` becomes what the target has to be. */
async function writeSome(proxy: MutatingProxy, expected: Buffer, random: Random): Promise<void> {
  const address = `nbd+unix:///rw?socket=${proxy.path}`;
  const writer = await openNbdWriter(address, { ...LIMITS, headers: random.pick(STYLES), size: SIZE, connections: random.between(1, 3) });
  try {
    for (let round = 0; round < 4; round++) {
      const offset = random.below(SIZE);
      const bytes = random.chance(0.6) ? random.bytes(random.between(1, Math.min(65_536, SIZE - offset))) : undefined;
      const length = bytes?.length ?? random.between(1, Math.min(65_536, SIZE - offset));
      if (bytes) await writer.write(bytes, offset);
      else await writer.zero(offset, length);
      expected.fill(0, offset, offset + length);
      bytes?.copy(expected, offset);
    }
    await writer.finish();
  } finally {
    await writer.abort();
  }
}

function judgeEnd(error: unknown): string[] {
  if (ENDS.some((code) => isChainkeepError(error, code))) return [];
  return [`it ended with ${error instanceof Error ? error.stack : String(error)}`];
}

async function checkOthers(path: string, disk: KnownDisk): Promise<string[]> {
  const reader = await openNbdReader(`nbd+unix:///disk?socket=${path}`, { reconnectWithin: 0 });
  const buffer = Buffer.alloc(4096);
  await reader.read(buffer, 8192);
  await reader.close();
  return buffer.equals(disk.bytes.subarray(8192, 12_288)) ? [] : ['another client reads wrong bytes'];
}
