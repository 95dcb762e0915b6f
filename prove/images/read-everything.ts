// A program that uses the library on one file in every way there is, and prints what became of each and how much memory it took.
// Errors of ours are answers; any other ends it.

import { isChainkeepError } from '../../src/plumbing/errors.ts';
import { checkImage, mapImage, openFileSource, openQcow2, readImageInfo } from '../../src/qcow2/library.ts';

const PIECE = 1024 ** 2;
/** Of a disk that can be read no more than this is read. */
const MOST_BYTES = 256 * 1024 ** 2;

const [path = ''] = process.argv.slice(2);
const source = await openFileSource(path);

async function outcome(work: () => Promise<unknown>): Promise<string> {
  try {
    await work();
    return 'done';
  } catch (error) {
    if (!isChainkeepError(error) || error.code === 'INTERNAL') throw error;
    return error.code;
  }
}

async function readDisk(): Promise<void> {
  const image = await openQcow2(source, { layer: true });
  const buffer = Buffer.alloc(PIECE);
  for (let at = 0; at < Math.min(image.size, MOST_BYTES); at += PIECE) {
    await image.read(buffer.subarray(0, Math.min(PIECE, image.size - at)), at);
  }
}

async function walkMap(): Promise<void> {
  for await (const entry of mapImage([await openQcow2(source, { layer: true })])) if (entry.length === 0) throw new Error('an empty entry');
}

const outcomes = {
  info: await outcome(() => readImageInfo(source)),
  check: await outcome(() => checkImage(source)),
  read: await outcome(readDisk),
  map: await outcome(walkMap),
};
process.stdout.write(`${JSON.stringify({ ...outcomes, memory_kib: process.resourceUsage().maxRSS })}\n`);
