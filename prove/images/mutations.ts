// What is done to an image: every structure of the format has mutations of its own, and every value a limit is near to is tried.
// A mutation follows from its random numbers and from the image as it is; it must not judge what it makes.

import { deflateRawSync, zstdCompressSync } from 'node:zlib';
import type { Random } from '../random.ts';
import type { HostileImage } from './hostile-image.ts';
import type { Place } from './structures.ts';

type Mutation = (image: HostileImage, random: Random) => void;

/** The end of the header and of the file are worth more than their size says. */
const MUTATIONS: readonly (readonly [weight: number, mutation: Mutation])[] = [
  [10, changeField],
  [4, changeFeatures],
  [6, changeExtensions],
  [8, changeL1Entry],
  [22, changeL2Entry],
  [20, changeSubclusters],
  [10, changeCompressedEntry],
  [12, changeStream],
  [6, replaceStream],
  [10, changeExtras],
  [5, resizeFile],
  [6, moveBytes],
  [5, changeAnything],
];

const TOTAL = MUTATIONS.reduce((sum, [weight]) => sum + weight, 0);

export function mutate(image: HostileImage, random: Random): void {
  let left = random.below(TOTAL);
  for (const [weight, mutation] of MUTATIONS) {
    left -= weight;
    if (left >= 0) continue;
    mutation(image, random);
    return;
  }
}

const NEAR_LIMITS = [0n, 1n, 2n, 3n, 8n, 104n, 105n, 112n, 511n, 512n, 65_536n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 32n, 2n ** 46n].concat([
  2n ** 46n + 1n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 55n,
  2n ** 56n - 512n,
  2n ** 62n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 64n - 1n,
]);

function interesting(image: HostileImage, random: Random): bigint {
  const { said } = image.structures;
  const near = BigInt(random.pick([-512, -1, 0, 0, 1, 512, said.clusterSize, -said.clusterSize]));
  const kind = random.below(4);
  if (kind === 0) return random.pick(NEAR_LIMITS) + near;
  if (kind === 1) return BigInt(image.length) + near;
  if (kind === 2) return BigInt(somePlace(image, random)) + near;
  return BigInt(said.clusterSize) * BigInt(random.below(40)) + (random.chance(0.2) ? near : 0n);
}

/** The offset of some structure, of whatever kind. */
function somePlace(image: HostileImage, random: Random): number {
  const { said, l2Entries, dataClusters, streams, extras } = image.structures;
  const places = [0, said.l1Offset, ...l2Entries.slice(0, 1), ...streams.slice(0, 20).map(({ at }) => at), ...extras.map(({ at }) => at)];
  const place = random.pick([...places, ...dataClusters.slice(0, 20)]);
  return random.chance(0.8) ? Math.floor(place / said.clusterSize) * said.clusterSize : place;
}

function flipBit(image: HostileImage, random: Random, { at, length }: Place): void {
  image.flip(at + random.below(length), 1 << random.below(8));
}

function changeField(image: HostileImage, random: Random): void {
  const { at, length } = random.pick(image.structures.fields);
  if (random.chance(0.5)) {
    flipBit(image, random, { at, length });
    return;
  }
  const value = Buffer.alloc(8);
  value.writeBigUInt64BE(BigInt.asUintN(64, interesting(image, random)));
  image.write(at, value.subarray(8 - length));
}

function changeFeatures(image: HostileImage, random: Random): void {
  const at = random.pick([72, 72, 72, 80, 88]);
  image.writeU64(at, image.readU64(at) ^ (1n << BigInt(random.chance(0.8) ? random.below(6) : random.below(64))));
  if (random.chance(0.3)) image.write(104, Uint8Array.of(random.below(3)));
}

const EXTENSIONS = [0xe2792aca, 0x6803f857, 0x23852875, 0x0537be77, 0x44415441, 0x434b4944, 0x12345678, 0];

function changeExtensions(image: HostileImage, random: Random): void {
  const { extensions } = image.structures;
  const room = { at: extensions.at, length: Math.min(extensions.length, 400) };
  if (random.chance(0.4)) {
    flipBit(image, random, room);
    return;
  }
  const count = random.between(1, 4);
  const records = Array.from({ length: count }, () => {
    const length = random.pick([0, 1, 7, 8, 16, 24, 48]);
    const record = Buffer.alloc(8 + Math.ceil(length / 8) * 8, random.pick([0, 0x41, 0xff]));
    record.writeUInt32BE(random.pick(EXTENSIONS), 0);
    record.writeUInt32BE(
      random.chance(0.1) ? random.pick([0xffff_ffff, 0x7fff_ffff, extensions.length, extensions.length - 8]) : length,
      4,
    );
    return record;
  });
  image.write(random.chance(0.7) ? room.at : room.at + 8 * random.below(room.length / 8), Buffer.concat(records));
}

function changeEntry(image: HostileImage, random: Random, entries: readonly number[]): void {
  const at = random.pick(entries);
  const entry = image.readU64(at);
  const kind = random.below(6);
  if (kind === 0) image.writeU64(at, entry ^ (1n << BigInt(random.below(64))));
  else if (kind === 1) image.writeU64(at, (entry & (1n << 63n)) | BigInt.asUintN(63, interesting(image, random)));
  else if (kind === 2) image.writeU64(at, image.readU64(random.pick(entries)));
  else if (kind === 3) image.writeU64(at, random.pick([0n, 1n, 1n << 63n, 1n << 62n, 2n, 1n << 56n, (1n << 63n) | 1n]));
  else if (kind === 4) swap(image, at, random.pick(entries));
  else image.writeU64(at, entry ^ random.pick([1n, 1n << 62n, 1n << 63n, 512n, BigInt(image.structures.said.clusterSize), 32n, 1n << 58n]));
}

function swap(image: HostileImage, a: number, b: number): void {
  const [first, second] = [image.readU64(a), image.readU64(b)];
  image.writeU64(a, second);
  image.writeU64(b, first);
}

function changeL1Entry(image: HostileImage, random: Random): void {
  changeEntry(image, random, image.structures.l1Entries);
}

function changeL2Entry(image: HostileImage, random: Random): void {
  changeEntry(image, random, image.structures.l2Entries);
}

function changeSubclusters(image: HostileImage, random: Random): void {
  const { bitmapHalves } = image.structures;
  if (bitmapHalves.length === 0) {
    changeL2Entry(image, random);
    return;
  }
  const at = random.pick(bitmapHalves);
  const bit = 1n << BigInt(random.below(64));
  const whole = [0n, 0xffff_ffffn, 0xffff_ffff_0000_0000n, 0x0000_ffff_ffff_0000n, 0x5555_5555_aaaa_aaaan, 2n ** 64n - 1n];
  image.writeU64(at, random.chance(0.6) ? image.readU64(at) ^ bit : random.pick(whole));
}

/** Offset or number of sectors, by a little or by a lot. */
function changeCompressedEntry(image: HostileImage, random: Random): void {
  const { compressedEntries, said } = image.structures;
  if (compressedEntries.length === 0) {
    changeL2Entry(image, random);
    return;
  }
  const at = random.pick(compressedEntries);
  const x = BigInt(62 - (said.clusterBits - 8));
  const entry = image.readU64(at);
  const kind = random.below(4);
  if (kind === 0) image.writeU64(at, entry + BigInt(random.between(-3, 3)));
  else if (kind === 1) image.writeU64(at, entry + BigInt(random.between(-3, 3)) * (1n << x));
  else if (kind === 2) image.writeU64(at, (entry & ~((1n << x) - 1n)) | BigInt.asUintN(Number(x), interesting(image, random)));
  else changeEntry(image, random, compressedEntries);
}

function changeStream(image: HostileImage, random: Random): void {
  const { streams } = image.structures;
  if (streams.length === 0) {
    changeAnything(image, random);
    return;
  }
  const stream = random.pick(streams);
  const head = { at: stream.at, length: Math.min(stream.length, 24) };
  const kind = random.below(4);
  if (kind === 0) flipBit(image, random, head);
  else if (kind === 1) flipBit(image, random, stream);
  else if (kind === 2) image.write(stream.at + random.below(stream.length), random.bytes(random.between(1, 16)));
  else image.write(stream.at + random.below(stream.length), Buffer.alloc(random.between(1, 64), random.pick([0, 0xff])));
}

/** A stream that decodes to something else: as long as it should be, shorter, longer, far longer, in pieces, or wrapped. */
function replaceStream(image: HostileImage, random: Random): void {
  const { streams, said } = image.structures;
  if (streams.length === 0) {
    changeL2Entry(image, random);
    return;
  }
  const { clusterSize } = said;
  const length = random.pick([
    clusterSize,
    clusterSize,
    clusterSize,
    clusterSize - 1,
    clusterSize + 1,
    clusterSize / 2,
    0,
    clusterSize * 40,
  ]);
  const plain = Buffer.alloc(Math.min(length, 4 * 1024 ** 2), random.pick(['\0', 'beer ', 'x']));
  const stream = said.zstd ? frames(plain, random) : random.chance(0.9) ? deflateRawSync(plain) : zstdCompressSync(plain);
  image.write(random.pick(streams).at, random.chance(0.9) ? stream : stream.subarray(0, random.below(stream.length + 1)));
}

function frames(plain: Buffer, random: Random): Buffer {
  const kind = random.below(4);
  const cut = random.below(plain.length + 1);
  if (kind === 0) return Buffer.concat([zstdCompressSync(plain.subarray(0, cut)), zstdCompressSync(plain.subarray(cut))]);
  const frame = zstdCompressSync(plain);
  if (kind > 1) return frame;
  const skippable = Buffer.alloc(8 + random.below(9));
  skippable.writeUInt32LE(0x184d2a50 + random.below(17), 0);
  skippable.writeUInt32LE(random.chance(0.9) ? skippable.length - 8 : 2 ** 32 - 1, 4);
  return Buffer.concat([skippable, frame]);
}

function changeExtras(image: HostileImage, random: Random): void {
  const extra = random.pick(image.structures.extras);
  const place = { at: extra.at, length: Math.min(extra.length, 256) };
  const kind = random.below(4);
  if (kind < 2) flipBit(image, random, place);
  else if (kind === 2) image.write(place.at + random.below(place.length), random.bytes(random.between(1, 12)));
  else image.writeU64(place.at + Math.floor(random.below(place.length) / 8) * 8, interesting(image, random));
}

function resizeFile(image: HostileImage, random: Random): void {
  const { said } = image.structures;
  const kind = random.below(5);
  if (kind === 0) image.resize(image.length + random.between(1, 70_000), random.pick([0, 0xa5]));
  else if (kind === 1) image.resize(image.length - random.pick([1, 2, 511, 512, 513, said.clusterSize - 1, said.clusterSize]), 0);
  else if (kind === 2) image.resize(Number(BigInt.asUintN(40, interesting(image, random))), 0);
  else if (kind === 3) image.resize(random.below(200), 0);
  else image.resize(random.below(image.length + 1), 0);
}

function moveBytes(image: HostileImage, random: Random): void {
  const unit = random.pick([8, 16, 512, image.structures.said.clusterSize]);
  const from = Math.floor(random.below(image.length + 1) / unit) * unit;
  const to = random.chance(0.5) ? somePlace(image, random) : Math.floor(random.below(image.length + 1) / unit) * unit;
  image.write(to, Buffer.from(image.bytes.subarray(from, Math.min(from + unit, image.length))));
}

function changeAnything(image: HostileImage, random: Random): void {
  if (image.length > 0) flipBit(image, random, { at: 0, length: image.length });
}
