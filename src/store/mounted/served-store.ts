// A store that another process uses through requests: the open sources, sinks and listings by their numbers. Runs in the process of a repository.
// Before each request that names a blob it asks the mount table whether the share is still there.

import type { ByteSource } from '../../plumbing/byte-source.ts';
import { assert } from '../../plumbing/errors.ts';
import type { BlobInfo, BlobStore, Leftover } from '../blob-store.ts';
import type { Answers, Operation, Page, StorageRequest } from './requests.ts';
import { ServedSink } from './served-sink.ts';

/** Blobs in one answer: each answer is a sign that the server lives. */
const PAGE = 256;

/** They reach what is open already, which is on the share and nowhere else. */
const UNCHECKED: ReadonlySet<Operation> = new Set(['read', 'write', 'flush', 'release', 'abort', 'more', 'leave']);

export type StoreRequest = Exclude<StorageRequest, { readonly op: 'hello' | 'start' | 'stop' }>;

export interface Served {
  readonly value: Answers[Operation];
  readonly body?: Uint8Array;
}

export class ServedStore {
  readonly #store: BlobStore;
  readonly #check: () => void;
  readonly #sources = new Map<number, ByteSource>();
  readonly #sinks = new Map<number, ServedSink>();
  readonly #listings = new Map<number, AsyncIterator<BlobInfo>>();

  /** `check` throws when the share is not mounted any more. */
  constructor(store: BlobStore, check: () => void) {
    this.#store = store;
    this.#check = check;
  }

  async serve(request: StoreRequest, body: Uint8Array): Promise<Served> {
    if (!UNCHECKED.has(request.op)) this.#check();
    if (request.op === 'read') return this.#read(request.source, request.offset, request.length);
    return { value: await this.#answer(request, body) };
  }

  async close(): Promise<void> {
    for (const source of this.#sources.values()) await source.close();
    await this.#store.close();
  }

  async #answer(request: Exclude<StoreRequest, { readonly op: 'read' }>, body: Uint8Array): Promise<Answers[Operation]> {
    switch (request.op) {
      case 'list':
        this.#listings.set(request.listing, this.#store.list(request.prefix)[Symbol.asyncIterator]());
        return this.#page(request.listing);
      case 'more':
        return this.#page(request.listing);
      case 'leave':
        await take(this.#listings, request.listing).return?.();
        return null;
      case 'stat':
        return (await this.#store.stat(request.name)) ?? null;
      case 'open':
        return this.#open(request.source, request.name);
      case 'release':
        await take(this.#sources, request.source).close();
        return null;
      case 'put':
        this.#sinks.set(request.sink, new ServedSink(await this.#store.put(request.name, request.options)));
        return null;
      case 'write':
        await get(this.#sinks, request.sink).write(body, request.offset);
        return null;
      case 'flush':
        await get(this.#sinks, request.sink).flush();
        return null;
      case 'finish':
        return this.#finish(request.sink, body, request.claimed);
      case 'abort':
        await get(this.#sinks, request.sink).abort();
        this.#sinks.delete(request.sink);
        return null;
      case 'delete':
        await this.#store.delete(request.name);
        return null;
      case 'protect':
        await this.#store.protect(request.name, request.protection);
        return null;
      case 'protection':
        return (await this.#store.protectionOf(request.name)) ?? null;
      case 'unprotect':
        await this.#store.release(request.name);
        return null;
      case 'leftovers':
        return this.#leftovers(request.prefix);
      case 'sweep':
        return this.#sweep(request.prefix, request.dead);
      case 'capacity':
        return (await this.#store.capacity()) ?? null;
    }
  }

  /** A sink that failed stays until it is aborted. */
  async #finish(number: number, head: Uint8Array, claimed: number): Promise<{ size: number }> {
    const finished = await get(this.#sinks, number).finish(head, claimed);
    this.#sinks.delete(number);
    return finished;
  }

  async #page(listing: number): Promise<Page> {
    const iterator = get(this.#listings, listing);
    this.#listings.delete(listing); // also when it fails
    const blobs: BlobInfo[] = [];
    while (blobs.length < PAGE) {
      const next = await iterator.next();
      if (next.done) return { blobs, ended: true };
      blobs.push(next.value);
    }
    this.#listings.set(listing, iterator);
    return { blobs, ended: false };
  }

  async #open(number: number, name: string): Promise<{ readonly size: number }> {
    const source = await this.#store.open(name);
    this.#sources.set(number, source);
    return { size: source.size };
  }

  async #read(source: number, offset: number, length: number): Promise<Served> {
    const bytes = Buffer.allocUnsafe(length);
    await get(this.#sources, source).read(bytes, offset);
    return { value: null, body: bytes };
  }

  async #leftovers(prefix: string): Promise<readonly Leftover[]> {
    const found: Leftover[] = [];
    await this.#store.sweep(prefix, ({ name, size, modifiedAt }) => {
      found.push({ name, size, modifiedAt });
      return false;
    });
    return found;
  }

  /** Only what is still as it was when it was said to be dead. */
  #sweep(prefix: string, dead: readonly Leftover[]): Promise<readonly Leftover[]> {
    const known = new Map(dead.map((leftover) => [leftover.name, leftover]));
    return this.#store.sweep(prefix, ({ name, size, modifiedAt }) => {
      const leftover = known.get(name);
      return leftover?.size === size && leftover.modifiedAt === modifiedAt;
    });
  }
}

function get<Item>(items: ReadonlyMap<number, Item>, number: number): Item {
  const item = items.get(number);
  assert(item !== undefined, `nothing has the number ${number}`);
  return item;
}

function take<Item>(items: Map<number, Item>, number: number): Item {
  const item = get(items, number);
  items.delete(number);
  return item;
}
