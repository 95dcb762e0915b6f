// What the stub for immutability knows of each blob: its versions, oldest first, and what protects them. Contents of earlier versions lie in a container beside.

import type { BlobClient, ContainerClient } from '@azure/storage-blob';

export interface KeptVersion {
  readonly id: string;
  readonly size: number;
  readonly etag: string;
  readonly modified: Date;
  current: boolean;
  until?: Date;
  mode?: 'unlocked' | 'locked';
  hold: boolean;
}

let counter = 0;

export class KeptVersions {
  readonly #container: ContainerClient;
  readonly #shadows: ContainerClient;
  readonly #byKey = new Map<string, KeptVersion[]>();

  constructor(container: ContainerClient, shadows: ContainerClient) {
    this.#container = container;
    this.#shadows = shadows;
  }

  of(key: string): readonly KeptVersion[] {
    return this.#byKey.get(key) ?? [];
  }

  keys(): readonly string[] {
    return [...this.#byKey.keys()].sort();
  }

  current(key: string): KeptVersion | undefined {
    return this.of(key).find((version) => version.current);
  }

  find(key: string, id: string | null): KeptVersion | undefined {
    return id === null ? this.current(key) : this.of(key).find((version) => version.id === id);
  }

  /** Where the bytes of a version are. */
  client(key: string, version: KeptVersion): BlobClient {
    return version.current ? this.#container.getBlobClient(key) : this.#shadows.getBlobClient(version.id);
  }

  /** Copies the current version aside, before it is replaced or deleted. */
  async save(key: string): Promise<KeptVersion | undefined> {
    const version = this.current(key);
    if (!version) return undefined;
    await this.#shadows.createIfNotExists();
    const content = await this.#container.getBlobClient(key).downloadToBuffer();
    const { metadata = {} } = await this.#container.getBlobClient(key).getProperties();
    await this.#shadows.getBlockBlobClient(version.id).upload(content, content.length, { metadata });
    return version;
  }

  /** A write has succeeded: what was there is an earlier version now. */
  async add(key: string, now: Date): Promise<KeptVersion> {
    const { contentLength: size = 0, etag = '', lastModified: modified = now } = await this.#container.getBlobClient(key).getProperties();
    this.hide(key);
    counter += 1;
    const id = now.toISOString().replace(/\d{3}Z$/, (millis) => `${millis.slice(0, 3)}${String(counter).padStart(4, '0').slice(-4)}Z`);
    const version: KeptVersion = { id, size, etag, modified, current: true, hold: false };
    this.#byKey.set(key, [...this.of(key), version]);
    return version;
  }

  hide(key: string): void {
    const version = this.current(key);
    if (version) version.current = false;
  }

  async remove(key: string, version: KeptVersion): Promise<void> {
    await this.#shadows.getBlobClient(version.id).delete();
    const rest = this.of(key).filter((other) => other !== version);
    if (rest.length > 0) this.#byKey.set(key, rest);
    else this.#byKey.delete(key);
  }
}

export function refusalOf(version: KeptVersion, now: Date): 'BlobImmutableDueToPolicy' | 'BlobImmutableDueToLegalHold' | undefined {
  if (version.hold) return 'BlobImmutableDueToLegalHold';
  return version.until && version.until > now ? 'BlobImmutableDueToPolicy' : undefined;
}
