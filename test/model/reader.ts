// The reader rule: which sidecar is the valid one for the image that lies there, and what a restore point reads as.
// It trusts no journal but the one of the image's own generation. Checks no digests: verify.ts does.

import { type Blobs, getImage, getJournal, getSidecar, type Image, type Sidecar } from './blobs.ts';
import { readOver } from './digest-model.ts';
import type { Content } from './disk-model.ts';
import type { Rules } from './rules.ts';

/** A sidecar and an image of one generation. */
export interface Pair {
  readonly sidecar: Sidecar;
  readonly image: Image;
}

export interface Fault {
  /** The backup that is at fault, not always the one that was asked for. */
  readonly id: string;
  readonly fault: string;
}

export function isFault(answer: object): answer is Fault {
  return 'fault' in answer;
}

/**
 * The rule in one place: the sidecar if it has the image's generation; else the new sidecar in the journal of exactly that
 * generation, for the merge has replaced the image and not yet the sidecar; else the two do not belong together.
 */
export function openPair(blobs: Blobs, rules: Rules, id: string): Pair | Fault {
  const sidecar = getSidecar(blobs, id);
  if (!sidecar) return { id, fault: 'no whole sidecar' };
  if (sidecar.id !== id) return { id, fault: 'sidecar of another backup' };
  const image = getImage(blobs, id);
  if (!image) return { id, fault: 'no image' };
  return matchPair(id, sidecar, image, image.generation === sidecar.generation ? undefined : journalOf(blobs, rules, image));
}

function journalOf(blobs: Blobs, rules: Rules, image: Image): Sidecar | undefined {
  return rules.has('readerAsksJournal') ? getJournal(blobs, image.id, image.generation)?.next : undefined;
}

function matchPair(id: string, sidecar: Sidecar, image: Image, next: Sidecar | undefined): Pair | Fault {
  const valid = image.generation === sidecar.generation ? sidecar : next;
  if (!valid) return { id, fault: `image of generation ${image.generation}, sidecar of ${sidecar.generation}, no journal` };
  if (image.id !== id) return { id, fault: 'image of another backup' };
  if (image.backing !== valid.parent) return { id, fault: `backing name ${image.backing}, parent ${valid.parent}` };
  return { sidecar: valid, image };
}

/** A child is only read on a parent with the content it was made on, and no larger than itself. */
export function bindingFault(rules: Rules, child: Sidecar, parent: Sidecar): Fault | undefined {
  if (rules.has('boundToParent') && child.parentRoot !== parent.root)
    return { id: child.id, fault: `made on other content than ${parent.id}` };
  if (child.size < parent.size) return { id: child.id, fault: `smaller than its parent ${parent.id}` };
  return undefined;
}

/** What was read before, so that checking a state after every step costs little: images never change, they are replaced. */
const overlays = new WeakMap<Image, Map<Content | null, Content>>();

function overlay(below: Content | null, image: Image): Content {
  const known = overlays.get(image) ?? new Map<Content | null, Content>();
  const content = known.get(below) ?? readOver(below, image);
  overlays.set(image, known.set(below, content));
  return content;
}

/** The backups from `id` down to its full, each by the reader rule. */
export function openChain(blobs: Blobs, rules: Rules, id: string): Pair[] | Fault {
  const chain: Pair[] = [];
  let next: string | null = id;
  while (next !== null) {
    const pair: Pair | Fault = openPair(blobs, rules, next);
    if (isFault(pair)) return pair;
    const child = chain.at(-1);
    const fault = child && bindingFault(rules, child.sidecar, pair.sidecar);
    if (fault) return fault;
    if (chain.length > blobs.size) return { id, fault: 'loop of parents' };
    chain.push(pair);
    next = pair.sidecar.parent;
  }
  return chain;
}

export function readPoint(blobs: Blobs, rules: Rules, id: string): Content | Fault {
  const chain = openChain(blobs, rules, id);
  return isFault(chain) ? chain : readChain(chain);
}

function readChain(chain: readonly Pair[]): Content {
  return chain.reduceRight<Content | null>((below, pair) => overlay(below, pair.image), null) ?? [];
}

/** What qemu-img reads that knows nothing of sidecars: images by their backing names alone. */
export function readPlain(blobs: Blobs, id: string): Content | Fault {
  const images: Image[] = [];
  let next: string | null = id;
  while (next !== null) {
    const image = getImage(blobs, next);
    if (!image || images.length > blobs.size) return { id: next, fault: 'no image' };
    images.push(image);
    next = image.backing;
  }
  return images.reduceRight<Content | null>((below, image) => overlay(below, image), null) ?? [];
}

/**
 * A reader that nobody waits for, from another installation: one look at the repository per `yield`, so that anything may happen
 * between two of them. What it has opened stays what it was. It starts again as long as something changed while it looked.
 */
export function* readSlowly(blobs: Blobs, rules: Rules, id: string, version: () => number): Generator<void, Content | Fault, void> {
  for (;;) {
    const started = version();
    const chain = yield* openChainSlowly(blobs, rules, id);
    if (!isFault(chain)) return readChain(chain);
    if (!rules.has('readerTriesAgain') || version() === started) return chain;
  }
}

function* openChainSlowly(blobs: Blobs, rules: Rules, id: string): Generator<void, Pair[] | Fault, void> {
  const chain: Pair[] = [];
  let next: string | null = id;
  while (next !== null) {
    const sidecar = getSidecar(blobs, next);
    yield;
    const image = getImage(blobs, next);
    if (!sidecar || !image) return { id: next, fault: 'no sidecar or no image' };
    yield;
    const journal = image.generation === sidecar.generation ? undefined : journalOf(blobs, rules, image);
    const pair: Pair | Fault = matchPair(next, sidecar, image, journal);
    if (isFault(pair)) return pair;
    const child = chain.at(-1);
    const fault = child && bindingFault(rules, child.sidecar, pair.sidecar);
    if (fault) return fault;
    chain.push(pair);
    next = pair.sidecar.parent;
    yield;
  }
  return chain;
}
