// A container of Azure Blob Storage as a blob store: block blobs, committed in one step, read by ranges bound to an ETag.
// It must not say "not there" before the service itself said so.

import type { ByteSink } from '../../plumbing/byte-sink.ts';
import type { ByteSource } from '../../plumbing/byte-source.ts';
import { ChainkeepError, isChainkeepError } from '../../plumbing/errors.ts';
import { checkBlobName, checkBlobPrefix, isBlobKey, isTemporaryKey } from '../blob-name.ts';
import type { BlobInfo, BlobProtection, BlobStore, Leftover, PutOptions, StoreCapabilities, StoreCapacity } from '../blob-store.ts';
import { BlockCache } from '../object/block-cache.ts';
import { type ObjectSettings, objectSettings } from '../object/object-settings.ts';
import { openPartSink } from '../object/part-sink.ts';
import { refuseFull, roomOf } from '../object/quota.ts';
import { type PartLimits, planParts } from '../part-plan.ts';
import type { OpenStoreOptions, StoreConfig } from '../store-kind.ts';
import { type AzureContainer, openContainer } from './azure-container.ts';
import { listPages } from './azure-list.ts';
import { deleteVersions, protectionOfName, protectVersion, refuseProtected, removeOlder } from './azure-protection.ts';
import { openAzureSource } from './azure-source.ts';
import { listLeftovers, removeStaged } from './azure-uncommitted.ts';
import { openAzureUpload } from './azure-upload.ts';
import { listVersions, meantVersion, versionsOf } from './azure-versions.ts';
import { checkImmutableSupport, checkNamespace } from './check-container.ts';

const MIB = 2 ** 20;
/** Of the service, since its version 2019-12-12. */
const LIMITS: PartLimits = {
  minPartSize: MIB,
  maxPartSize: 4000 * MIB,
  maxParts: 50_000,
  maxBlobSize: 50_000 * 4000 * MIB,
  equalParts: false,
};

class AzureStore implements BlobStore {
  readonly place: string;
  readonly capabilities: StoreCapabilities;
  readonly #container: AzureContainer;
  readonly #settings: ObjectSettings;
  /** Names mean versions. */
  readonly #versioned: boolean;
  readonly #cache: BlockCache;

  constructor(container: AzureContainer, settings: ObjectSettings, versioned: boolean) {
    this.place = container.place;
    this.#container = container;
    this.#settings = settings;
    this.#versioned = versioned;
    this.#cache = new BlockCache(settings.readCache);
    this.capabilities = {
      createOnly: true,
      atomicReplace: true,
      retention: versioned ? 'enforced' : 'none',
      maxBlobSize: LIMITS.maxBlobSize,
      maxParts: LIMITS.maxParts,
      upload: { minPartSize: LIMITS.minPartSize, maxPartSize: LIMITS.maxPartSize, ...settings.upload },
      costlyReads: true,
      clock: true,
      capacity: settings.quotaBytes !== undefined,
    };
  }

  async *list(prefix: string): AsyncGenerator<BlobInfo> {
    checkBlobPrefix(prefix);
    for await (const blob of this.#versioned ? this.#listMeant(prefix) : this.#listCurrent(prefix)) {
      if (isBlobKey(blob.name)) yield blob;
    }
  }

  async *#listCurrent(prefix: string): AsyncGenerator<BlobInfo> {
    for await (const { items } of listPages(this.#container, prefix)) {
      for (const { name, properties } of items) {
        yield {
          name: this.#container.nameOf(name),
          size: properties.contentLength ?? 0,
          modifiedAt: properties.lastModified.getTime(),
        };
      }
    }
  }

  async *#listMeant(prefix: string): AsyncGenerator<BlobInfo> {
    for await (const found of listVersions(this.#container, prefix)) {
      const version = meantVersion(found);
      if (version) yield { name: this.#container.nameOf(found.key), size: version.size, modifiedAt: version.modifiedAt };
    }
  }

  async stat(name: string): Promise<BlobInfo | undefined> {
    checkBlobName(name);
    if (this.#versioned) {
      const version = meantVersion(await versionsOf(this.#container, name));
      return version && { name, size: version.size, modifiedAt: version.modifiedAt };
    }
    const blob = this.#container.client.getBlobClient(this.#container.keyOf(name));
    try {
      const found = await this.#container.request({ action: 'read', name }, ({ abortSignal }) => blob.getProperties({ abortSignal }));
      return { name, size: found.contentLength ?? 0, modifiedAt: found.lastModified?.getTime() ?? 0 };
    } catch (error) {
      if (isChainkeepError(error, 'BLOB_NOT_FOUND')) return undefined;
      throw error;
    }
  }

  async open(name: string): Promise<ByteSource> {
    checkBlobName(name);
    return openAzureSource({ container: this.#container, cache: this.#cache, versioned: this.#versioned }, name);
  }

  async put(name: string, options: PutOptions = {}): Promise<ByteSink> {
    checkBlobName(name);
    const plan = planParts(LIMITS, this.#settings.upload, options, name);
    await refuseFull(this, name, options.expectedSize ?? 0, this.#settings.upload.partSize);
    const ifAbsent = options.ifAbsent ?? false;
    const upload = openAzureUpload(this.#container, name, {
      ifAbsent,
      checkName: async () => (this.#versioned ? this.#checkName(name, ifAbsent) : undefined),
      afterReplace: async (versionId) => (this.#versioned ? removeOlder(this.#container, name, versionId) : undefined),
    });
    return openPartSink(name, options.headLength ?? 0, plan, upload);
  }

  /** Azure would make a new version of a locked blob, and a new blob where a locked one was only hidden. */
  async #checkName(name: string, ifAbsent: boolean): Promise<void> {
    const found = await versionsOf(this.#container, name);
    if (ifAbsent && meantVersion(found)) {
      throw new ChainkeepError('BLOB_EXISTS', `${name} exists in ${this.place}`, { context: { place: this.place, name } });
    }
    refuseProtected(name, found);
  }

  async delete(name: string): Promise<void> {
    checkBlobName(name);
    await this.#remove(name);
  }

  async #remove(name: string): Promise<void> {
    if (this.#versioned) return deleteVersions(this.#container, name);
    const blob = this.#container.client.getBlobClient(this.#container.keyOf(name));
    try {
      await this.#container.request({ action: 'delete', name }, ({ abortSignal }) => blob.delete({ abortSignal }));
    } catch (error) {
      if (!isChainkeepError(error, 'BLOB_NOT_FOUND')) throw error;
    }
  }

  async protect(name: string, protection: BlobProtection): Promise<void> {
    checkBlobName(name);
    if (this.#versioned) return protectVersion(this.#container, name, protection);
    throw new ChainkeepError('NOT_SUPPORTED', `blobs in ${this.place} cannot be locked`, {
      advice: 'set use_immutable_blobs=true; the container must support immutability of versions',
      context: { place: this.place, name },
    });
  }

  async protectionOf(name: string): Promise<BlobProtection | undefined> {
    checkBlobName(name);
    return this.#versioned ? protectionOfName(this.#container, name) : undefined;
  }

  async release(name: string): Promise<void> {
    checkBlobName(name); // Azure keeps dates itself, and nothing frees what it keeps
  }

  async sweep(prefix: string, isDead: (leftover: Leftover) => boolean): Promise<readonly Leftover[]> {
    checkBlobPrefix(prefix);
    const removed: Leftover[] = [];
    for await (const leftover of listLeftovers(this.#container, prefix)) {
      if (isDead(leftover) && (await this.#removeLeftover(leftover.name))) removed.push(leftover);
    }
    return removed;
  }

  async #removeLeftover(name: string): Promise<boolean> {
    if (!isTemporaryKey(name)) return removeStaged(this.#container, name);
    await this.#remove(name);
    return true;
  }

  /** Every version that is kept takes room. */
  async capacity(): Promise<StoreCapacity | undefined> {
    const { quotaBytes } = this.#settings;
    if (quotaBytes === undefined) return undefined;
    let usedBytes = 0;
    for await (const { items } of listPages(this.#container, '', { includeVersions: this.#versioned })) {
      for (const { properties } of items) usedBytes += properties.contentLength ?? 0;
    }
    return roomOf(quotaBytes, usedBytes);
  }

  async now(): Promise<number | undefined> {
    for await (const { now } of listPages(this.#container, '', { pageSize: 1 })) return now();
    return undefined;
  }

  async close(): Promise<void> {
    this.#container.close();
  }
}

/** CONFIG_INVALID where blobs are to be locked and the container cannot, and, with `create`, for an account that does not fit. */
export async function openAzureStore(config: StoreConfig, { create }: OpenStoreOptions): Promise<BlobStore> {
  const container = openContainer(config);
  const versioned = config.use_immutable_blobs === true;
  if (create) await checkNamespace(container);
  if (versioned) await checkImmutableSupport(container);
  return new AzureStore(container, objectSettings(config), versioned);
}
