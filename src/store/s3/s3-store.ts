// A bucket, or a folder in one, as a blob store: names are keys behind a prefix, images are ordinary objects that every S3 client can fetch.
// With Object Lock a name means its oldest version still locked, and nothing is deleted but by version id.

import type { ByteSink } from '../../plumbing/byte-sink.ts';
import type { ByteSource } from '../../plumbing/byte-source.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { checkBlobName, checkBlobPrefix, isBlobKey, isTemporaryKey } from '../blob-name.ts';
import type { BlobInfo, BlobProtection, BlobStore, Leftover, PutOptions, StoreCapabilities, StoreCapacity } from '../blob-store.ts';
import { BlockCache } from '../object/block-cache.ts';
import { openMeant } from '../object/open-meant.ts';
import { openPartSink } from '../object/part-sink.ts';
import { refuseFull, roomOf } from '../object/quota.ts';
import { type PartLimits, planParts } from '../part-plan.ts';
import { checkObjectLock } from './check-object-lock.ts';
import { decidesConditions } from './create-only-probe.ts';
import { openS3Connection, type S3Connection } from './s3-client.ts';
import { listObjects, listUploads, type UnfinishedUpload } from './s3-list.ts';
import { deleteVersion, deleteVersions, protectionOfObject, protectObject } from './s3-lock.ts';
import { checkBucket, lookAt } from './s3-objects.ts';
import type { S3Settings } from './s3-settings.ts';
import { notFound, openS3Source } from './s3-source.ts';
import { abortUpload, s3Target } from './s3-target.ts';
import { bytesOfVersions, listMeant, meantVersion, type ObjectVersion } from './s3-versions.ts';

const MIB = 2 ** 20;

/** Of every server; what differs between them are settings. */
const PART_SIZES = { minPartSize: 5 * MIB, maxPartSize: 5 * 1024 * MIB } as const;

/** In governance mode whoever has the right to bypass it may delete before the date. */
const RETENTION = { COMPLIANCE: 'enforced', GOVERNANCE: 'advisory', NONE: 'none' } as const;

class S3Store implements BlobStore {
  readonly place: string;
  readonly #connection: S3Connection;
  readonly #settings: S3Settings;
  readonly #cache: BlockCache;
  readonly #limits: PartLimits;
  #conditional: Promise<boolean> | undefined;
  #capabilities: StoreCapabilities;

  constructor(connection: S3Connection) {
    this.#connection = connection;
    this.#settings = connection.settings;
    this.place = connection.settings.place;
    this.#cache = new BlockCache(connection.settings.readCache);
    const { limits, upload, endpoint, lockMode, quotaBytes } = connection.settings;
    this.#limits = { ...PART_SIZES, ...limits };
    this.#capabilities = {
      ...limits,
      createOnly: endpoint === undefined,
      atomicReplace: true,
      retention: RETENTION[lockMode ?? 'NONE'],
      upload: { ...PART_SIZES, ...upload },
      costlyReads: true,
      clock: true,
      capacity: quotaBytes !== undefined,
    };
  }

  /** `createOnly` is known once a blob was written under that condition: a server other than AWS is tried first. */
  get capabilities(): StoreCapabilities {
    return this.#capabilities;
  }

  async *list(prefix: string): AsyncGenerator<BlobInfo> {
    checkBlobPrefix(prefix);
    for await (const found of this.#listAll(prefix)) if (isBlobKey(found.name)) yield found;
  }

  async *#listAll(prefix: string): AsyncGenerator<BlobInfo> {
    if (!this.#settings.lockMode) return yield* listObjects(this.#connection, prefix);
    for await (const { name, size, modifiedAt } of listMeant(this.#connection, prefix)) yield { name, size, modifiedAt };
  }

  async stat(name: string): Promise<BlobInfo | undefined> {
    checkBlobName(name);
    const found = this.#settings.lockMode ? await meantVersion(this.#connection, name) : await lookAt(this.#connection, name);
    if (found) return { name, size: found.size, modifiedAt: found.modifiedAt };
    await checkBucket(this.#connection);
    return undefined;
  }

  async open(name: string): Promise<ByteSource> {
    checkBlobName(name);
    if (!this.#settings.lockMode) return openS3Source(this.#connection, this.#cache, name);
    const look = async (): Promise<ObjectVersion> => {
      const version = await meantVersion(this.#connection, name);
      if (!version) throw notFound(this.place, name);
      return version;
    };
    return openMeant(look, ({ versionId }) => openS3Source(this.#connection, this.#cache, name, versionId));
  }

  async put(name: string, options: PutOptions = {}): Promise<ByteSink> {
    checkBlobName(name);
    const plan = planParts(this.#limits, this.#settings.upload, options, name);
    await refuseFull(this, name, options.expectedSize ?? 0, this.#settings.upload.partSize);
    const ifAbsent = options.ifAbsent ?? false;
    const target = s3Target(this.#connection, name, { ifAbsent, conditional: ifAbsent && (await this.#isConditional()) });
    return openPartSink(name, options.headLength ?? 0, plan, target);
  }

  #isConditional(): Promise<boolean> {
    this.#conditional ??= decidesConditions(this.#connection).then(
      (createOnly) => {
        this.#capabilities = { ...this.#capabilities, createOnly };
        return createOnly;
      },
      (error: unknown) => {
        this.#conditional = undefined; // it was not answered; the next one asks again
        throw error;
      },
    );
    return this.#conditional;
  }

  async delete(name: string): Promise<void> {
    checkBlobName(name);
    await this.#remove(name);
  }

  async #remove(name: string): Promise<void> {
    if (this.#settings.lockMode) await deleteVersions(this.#connection, name);
    else await deleteVersion(this.#connection, name, undefined);
  }

  async sweep(prefix: string, isDead: (leftover: Leftover) => boolean): Promise<readonly Leftover[]> {
    checkBlobPrefix(prefix);
    const dead: UnfinishedUpload[] = [];
    for await (const upload of listUploads(this.#connection, prefix)) {
      const { name, size, modifiedAt } = upload;
      if (isDead({ name, size, modifiedAt })) dead.push(upload);
    }
    const temporaries: Leftover[] = [];
    for await (const found of this.#listAll(prefix)) if (isTemporaryKey(found.name) && isDead(found)) temporaries.push(found);
    for (const { key, upload } of dead) await abortUpload(this.#connection, key, upload);
    for (const { name } of temporaries) await this.#remove(name);
    return [...dead.map(({ name, size, modifiedAt }) => ({ name, size, modifiedAt })), ...temporaries];
  }

  async protect(name: string, protection: BlobProtection): Promise<void> {
    checkBlobName(name);
    if (!this.#settings.lockMode) throw this.#notLockable();
    await protectObject(this.#connection, name, protection);
  }

  async protectionOf(name: string): Promise<BlobProtection | undefined> {
    checkBlobName(name);
    return this.#settings.lockMode ? protectionOfObject(this.#connection, name) : undefined;
  }

  async release(name: string): Promise<void> {
    checkBlobName(name); // dates end by themselves here, and no other protection is set
  }

  #notLockable(): ChainkeepError {
    return new ChainkeepError('NOT_SUPPORTED', `nothing can be locked in ${this.place}: use_object_lock is not set`, {
      advice: 'set use_object_lock=true for a bucket that was made with Object Lock',
      context: { place: this.place },
    });
  }

  /** Undefined without a quota: a bucket has no size of its own. */
  async capacity(): Promise<StoreCapacity | undefined> {
    const { quotaBytes } = this.#settings;
    return quotaBytes === undefined ? undefined : roomOf(quotaBytes, await this.#usedBytes());
  }

  async #usedBytes(): Promise<number> {
    if (this.#settings.lockMode) return bytesOfVersions(this.#connection);
    let bytes = 0;
    for await (const { size } of listObjects(this.#connection, '')) bytes += size;
    return bytes;
  }

  async now(): Promise<number> {
    await checkBucket(this.#connection);
    return this.#connection.now();
  }

  async close(): Promise<void> {
    this.#connection.close();
  }
}

/** CONFIG_INVALID where objects are to be locked and the bucket cannot. */
export async function openS3Store(settings: S3Settings): Promise<BlobStore> {
  const connection = await openS3Connection(settings);
  try {
    if (settings.lockMode) await checkObjectLock(connection);
  } catch (error) {
    connection.close();
    throw error;
  }
  return new S3Store(connection);
}
