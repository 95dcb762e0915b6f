// Changes that fit together: a backup rewritten with all its checksums, or taken back whole to an older generation. Only what others
// know of it can tell: its children's binding, and the catalog.

import {
  type Blob,
  type Blobs,
  digestsName,
  getDigests,
  getImage,
  getSidecar,
  imageName,
  listSidecars,
  sealSidecar,
  sidecarName,
} from './blobs.ts';
import { contentRoot, digestOf, digestsOf, digestsRoot, rangesOf, structureOf } from './digest-model.ts';
import { isFault, readPoint } from './reader.ts';
import type { Rules } from './rules.ts';
import type { Rows } from './site.ts';
import { verify } from './verify.ts';

/** Throws when a forgery of one backup, by `which`, goes unnoticed, or an older generation of any. Leaves `blobs` alone. */
export function checkForgeries(blobs: Blobs, rules: Rules, rows: Rows, older: ReadonlyMap<string, Blob>, which: number): void {
  const all = listSidecars(blobs);
  for (const [index, { id }] of all.entries()) {
    const children = all.filter(({ parent }) => parent === id);
    const rewritten = index === which % all.length ? rewrite(blobs, rules, id) : undefined;
    if (rewritten) {
      mustName(verify(rewritten, rules, rows), [id, ...children.map((child) => child.id)], 'rewritten');
      // Without the catalog the parent and its child are one word against another: either may be named.
      if (children.length > 0)
        mustName(verify(rewritten, rules, new Map()), [id, ...children.map((child) => child.id)], 'rewritten, no catalog');
    }
    const replayed = replay(blobs, id, older);
    if (replayed) mustName(verify(replayed, rules, rows), [id], 'an older generation');
  }
}

function mustName(damage: ReadonlyMap<string, string>, ids: readonly string[], what: string): void {
  if (!ids.some((id) => damage.has(id))) throw new Error(`${ids[0]} is ${what}, and verify names only [${[...damage.keys()]}]`);
}

/** Other data in the first cluster that the image has data in, and every hash above it made anew. */
function rewrite(blobs: Blobs, rules: Rules, id: string): Blobs | undefined {
  const image = getImage(blobs, id);
  const sidecar = getSidecar(blobs, id);
  const file = image && getDigests(blobs, id, image.generation);
  const at = image?.map.findIndex((value) => value > 0) ?? -1;
  if (!image || !sidecar || !file || at < 0) return undefined;
  const value = (image.map[at] % 3) + 1;
  const forged = { ...image, map: image.map.with(at, value === image.map[at] ? value + 1 : value) };
  const entries = file.entries.with(at, digestOf(forged.map[at]));
  const copy = new Map(blobs).set(imageName(id), forged);
  const content = readPoint(copy, rules, id);
  if (isFault(content)) return undefined;
  const digests = { ...file, entries, ranges: rangesOf(rules, digestsOf(content)) };
  const { checksum: _, ...fields } = sidecar;
  const root = contentRoot(sidecar.size, digests.ranges);
  const sealed = sealSidecar({ ...fields, root, digestsRoot: digestsRoot(digests), structure: structureOf(forged) });
  return copy.set(digestsName(id, image.generation), digests).set(sidecarName(id), sealed);
}

/** Image, sidecar and digests as they were before a merge. */
function replay(blobs: Blobs, id: string, older: ReadonlyMap<string, Blob>): Blobs | undefined {
  const image = older.get(imageName(id));
  const sidecar = older.get(sidecarName(id));
  if (image?.kind !== 'image' || sidecar?.kind !== 'sidecar' || image.generation !== sidecar.generation) return undefined;
  const digests = older.get(digestsName(id, image.generation));
  if (!digests || image.generation === getImage(blobs, id)?.generation) return undefined;
  return new Map(blobs).set(imageName(id), image).set(sidecarName(id), sidecar).set(digestsName(id, image.generation), digests);
}
