// Everything that is done to the files of the repository, as families of numbered attacks. It damages nothing itself and judges nothing.

import { parseFileName } from '../../src/repository/layout.ts';
import { CLUSTER } from '../../test/repository/small-repository.ts';
import type { Random } from '../random.ts';
import type { TwoChains } from './two-chains.ts';

export interface Attack {
  readonly what: string;
  /** New bytes by path, null for a file that is gone. */
  readonly changes: ReadonlyMap<string, Buffer | null>;
}

export interface Family {
  readonly name: string;
  readonly size: number;
  /** One changed bit: a look at one backup finds it, most often without reading data; not every one is restored as well. */
  readonly oneBit: boolean;
  attack(index: number, random: Random): Attack;
}

export function familiesOf(chains: TwoChains): readonly Family[] {
  const { files } = chains;
  const paths = [...files.keys()];
  return [
    bytesFamily(files),
    bitsFamily(files),
    listFamily('cut', cuts(files)),
    listFamily(
      'removed',
      paths.map((path) => ({ what: `${path} removed`, changes: new Map([[path, null]]) })),
    ),
    listFamily('swapped', swaps(files, paths)),
    listFamily('earlier life', earlierLives(chains)),
    listFamily('older backup', olderBackups(chains)),
    listFamily(
      'clusters exchanged',
      exchanges(
        files,
        paths.filter((path) => path.endsWith('.qcow2')),
      ),
    ),
  ];
}

function listFamily(name: string, attacks: readonly Attack[]): Family {
  const real = attacks.filter(({ changes }) => changes.size > 0);
  return {
    name,
    size: real.length,
    oneBit: false,
    attack: (index) => {
      const attack = real[index];
      if (!attack) throw new RangeError(`${name} has no attack ${index}`);
      return attack;
    },
  };
}

type Files = ReadonlyMap<string, Buffer>;

/** Finds the file in which the `index`th of all counted things lies. */
function locate(
  files: Files,
  index: number,
  count: (path: string, bytes: Buffer) => number,
): { path: string; bytes: Buffer; rest: number } {
  let rest = index;
  for (const [path, bytes] of files) {
    const own = count(path, bytes);
    if (rest < own) return { path, bytes, rest };
    rest -= own;
  }
  throw new RangeError(`there is no place ${index}`);
}

function flip(path: string, bytes: Buffer, offset: number, bit: number): Attack {
  const flipped = Buffer.from(bytes);
  flipped.writeUInt8((bytes[offset] ?? 0) ^ (1 << bit), offset);
  return { what: `bit ${bit} of byte ${offset} of ${path} flipped`, changes: new Map([[path, flipped]]) };
}

function bytesFamily(files: Files): Family {
  const size = [...files.values()].reduce((sum, { length }) => sum + length, 0);
  return {
    name: 'every byte',
    size,
    oneBit: true,
    attack: (index, random) => {
      const { path, bytes, rest } = locate(files, index, (_path, { length }) => length);
      return flip(path, bytes, rest, random.below(8));
    },
  };
}

function bitsFamily(files: Files): Family {
  const metadata = new Map(
    [...files].map(([path, bytes]) => [path, path.endsWith('.qcow2') ? metadataOf(bytes) : [[0, bytes.length] as const]]),
  );
  const count = (path: string): number => 8 * (metadata.get(path) ?? []).reduce((sum, [from, to]) => sum + to - from, 0);
  return {
    name: 'every bit of metadata',
    size: [...files.keys()].reduce((sum, path) => sum + count(path), 0),
    oneBit: true,
    attack: (index) => {
      const { path, bytes, rest } = locate(files, index, count);
      let at = Math.floor(rest / 8);
      for (const [from, to] of metadata.get(path) ?? []) {
        if (at < to - from) return flip(path, bytes, from + at, rest % 8);
        at -= to - from;
      }
      throw new RangeError(`there is no bit ${index}`);
    },
  };
}

/** Header, L1 table, refcount table, L2 tables and refcount blocks: where they lie, by the image's own words (it is a good one). */
function metadataOf(image: Buffer): (readonly [number, number])[] {
  const tables = (at: number, entries: number): number[] =>
    Array.from({ length: entries }, (_, index) => image.readUInt32BE(at + 8 * index + 4)).filter((offset) => offset !== 0);
  const refcountTable = image.readUInt32BE(52);
  const head = refcountTable + image.readUInt32BE(56) * CLUSTER;
  const found = [...tables(image.readUInt32BE(44), image.readUInt32BE(36)), ...tables(refcountTable, (head - refcountTable) / 8)];
  return [[0, head] as const, ...found.map((offset) => [offset, offset + CLUSTER] as const)];
}

function cuts(files: Files): Attack[] {
  return [...files].flatMap(([path, bytes]) => {
    const shorter = [1, 512, 65_000].map((count) => Math.max(0, bytes.length - count));
    return [...new Set([0, ...edgesOf(path, bytes), ...shorter])]
      .filter((length) => length < bytes.length)
      .map((length) => ({
        what: `${path} cut to ${length} of ${bytes.length} bytes`,
        changes: new Map([[path, bytes.subarray(0, length)]]),
      }));
  });
}

/** Where one structure of a file ends and the next begins. */
function edgesOf(path: string, bytes: Buffer): number[] {
  if (path.endsWith('.qcow2')) return [8, 72, 104, 112, ...Array.from({ length: bytes.length / CLUSTER }, (_, index) => index * CLUSTER)];
  if (path.endsWith('.digests')) {
    const parts = [24, 32, 40].map((at) => Number(bytes.readBigUInt64BE(bytes.length - 96 + at)));
    return [64, ...parts, bytes.length - 96];
  }
  const text = bytes.toString('latin1');
  return [...text.matchAll(/\n/g)].map(({ index }) => index + 1);
}

function swaps(files: Files, paths: readonly string[]): Attack[] {
  return paths.flatMap((one, index) =>
    paths.slice(index + 1).map((other) => ({
      what: `${one} and ${other} swapped`,
      changes: new Map([
        [one, files.get(other) ?? null],
        [other, files.get(one) ?? null],
      ]),
    })),
  );
}

/**
 * Image, digests and sidecar of an earlier life of the same backup, in every combination but one: all three of a backup that nothing
 * stands on are a whole older generation, which nothing in the repository can know (docs/decisions/0002-digests-and-merge.md).
 */
function earlierLives({ older, sidecars }: TwoChains): Attack[] {
  return sidecars.flatMap(({ backup_id: id }) => {
    const own = [...older].filter(([path]) => path.includes(id));
    const isParent = sidecars.some((sidecar) => sidecar.parent_backup_id === id);
    return Array.from({ length: isParent ? 7 : 6 }, (_, index) => own.filter((_file, bit) => ((index + 1) & (1 << bit)) !== 0)).map(
      (chosen) => ({
        what: `of an earlier life: ${chosen.map(([path]) => path).join(', ')}`,
        changes: new Map(chosen),
      }),
    );
  });
}

/** A file of an older backup of the same disk under the name of a younger one; also all three at once. */
function olderBackups({ files, sidecars }: TwoChains): Attack[] {
  const endings = ['.qcow2', '.1.digests', '.json'];
  const pathOf = (id: string, ending: string): string => [...files.keys()].find((path) => path.endsWith(id + ending)) ?? '';
  return sidecars.flatMap(({ backup_id: younger }, index) =>
    sidecars.slice(0, index).flatMap(({ backup_id: older }) =>
      [...endings.map((ending) => [ending]), endings].map((chosen) => ({
        what: `${chosen.join(', ')} of ${younger} replaced by those of ${older}`,
        changes: new Map(chosen.map((ending) => [pathOf(younger, ending), files.get(pathOf(older, ending)) ?? null])),
      })),
    ),
  );
}

/** Two clusters of the files change places, inside of an image and between two. */
function exchanges(files: Files, images: readonly string[]): Attack[] {
  const places = images.flatMap((path) =>
    Array.from({ length: (files.get(path)?.length ?? 0) / CLUSTER }, (_, index) => ({ path, at: index * CLUSTER })),
  );
  return places.flatMap((one, index) =>
    places.slice(index + 1).map((other) => {
      const changes = new Map<string, Buffer>();
      const bytesOf = (path: string): Buffer => files.get(path) ?? Buffer.alloc(0);
      const [first, second] = [one, other].map(({ path, at }) => bytesOf(path).subarray(at, at + CLUSTER));
      if (first && second && !first.equals(second)) {
        for (const { path } of [one, other]) changes.set(path, Buffer.from(bytesOf(path)));
        changes.get(one.path)?.set(second, one.at);
        changes.get(other.path)?.set(first, other.at);
      }
      return { what: `cluster ${one.at} of ${one.path} and cluster ${other.at} of ${other.path} exchanged`, changes };
    }),
  );
}

/** The backup that a path belongs to; undefined for the marker. */
export function backupOf(path: string): string | undefined {
  return parseFileName(path)?.backupId;
}
