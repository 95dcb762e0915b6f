// What the parts of one blob become on S3: one PUT, or a multipart upload that is completed last.
// It must not call a blob written before the server has said so about the very attempt that was ours, and never replaces what may only be created.

import { setTimeout as sleep } from 'node:timers/promises';
import type { CompletedPart } from '@aws-sdk/client-s3';
import { randomFraction, randomToken } from '../../plumbing/clock.ts';
import { assert, ChainkeepError } from '../../plumbing/errors.ts';
import type { PartTarget } from '../object/part-sink.ts';
import type { S3Connection } from './s3-client.ts';
import { faultOf, isRefusedCondition } from './s3-errors.ts';
import { deleteVersion, deleteVersions, refuseProtected, removeVersion } from './s3-lock.ts';
import { anObject, keyOf, type LookedAt, lookAt, newObject, realVersion, WRITER } from './s3-objects.ts';
import { type FoundVersion, meantVersion, type ObjectVersion, versionsOf } from './s3-versions.ts';

/** How often two writers that create the same name at the same time under Object Lock give way to each other, and for how many milliseconds at most. */
const MOST_RACES = 20;
const MOST_YIELD_MS = 250;

export interface TargetOptions {
  readonly ifAbsent: boolean;
  /** The server decides `If-None-Match: *` of a PUT by itself, in one step. */
  readonly conditional: boolean;
}

class S3Target implements PartTarget {
  readonly #connection: S3Connection;
  readonly #name: string;
  readonly #options: TargetOptions;
  /** In the metadata of the object: so a lost answer, a request that came twice and somebody else's object can be told apart. */
  readonly #writer = randomToken(24);
  readonly #parts = new Map<number, CompletedPart>();
  #upload: Promise<string> | undefined;
  /** The blob may be there, whatever was answered. */
  #mayBeThere = false;

  constructor(connection: S3Connection, name: string, options: TargetOptions) {
    this.#connection = connection;
    this.#name = name;
    this.#options = options;
  }

  async putWhole(content: Uint8Array): Promise<void> {
    for (let attempt = 1; !(await this.#tryWhole(content)); attempt += 1) {
      if (attempt === MOST_RACES) throw this.#exists();
      await sleep(MOST_YIELD_MS * randomFraction());
    }
  }

  /** False: another writer of the same name was there at the same time, and ours was taken back. */
  async #tryWhole(content: Uint8Array): Promise<boolean> {
    await this.#refuseTaken();
    const written = await this.#put(content);
    const versioned = this.#connection.settings.lockMode !== undefined && written?.versionId !== undefined;
    const sure = written !== undefined && (this.#options.conditional || !this.#options.ifAbsent || versioned);
    const versionId = sure ? written.versionId : (await this.#confirm(content.byteLength)).versionId;
    return this.#settleVersions(versionId);
  }

  /** Undefined when the server's condition refused it: the name is taken, perhaps by an earlier attempt of ours. */
  async #put(content: Uint8Array): Promise<{ readonly versionId: string | undefined } | undefined> {
    const { sdk, settings } = this.#connection;
    const input = {
      ...newObject(settings, keyOf(settings, this.#name)),
      Body: content,
      ContentLength: content.byteLength,
      Metadata: { [WRITER]: this.#writer },
      ...(this.#options.ifAbsent && this.#options.conditional && { IfNoneMatch: '*' }),
    };
    this.#mayBeThere = true;
    return this.#connection.ask({ action: `write ${this.#name}`, writes: true }, async (client, options) => {
      try {
        return { versionId: realVersion((await client.send(new sdk.PutObjectCommand(input), options)).VersionId) };
      } catch (error) {
        if (isRefusedCondition(error)) return undefined;
        throw error;
      }
    });
  }

  async uploadPart(number: number, content: Uint8Array, signal: AbortSignal): Promise<void> {
    const { sdk, settings } = this.#connection;
    this.#upload ??= this.#begin(signal);
    const upload = await this.#upload;
    const part = {
      ...anObject(settings, keyOf(settings, this.#name)),
      UploadId: upload,
      PartNumber: number,
      Body: content,
      ContentLength: content.byteLength,
      ...this.#checksum(),
    };
    const action = `write part ${number} of ${this.#name}`;
    const done = await this.#connection.ask({ action, writes: true, signal }, async (client, options) => {
      const { ETag, ChecksumCRC32 } = await client.send(new sdk.UploadPartCommand(part), options);
      if (ETag === undefined) throw new Error('the answer says no ETag');
      return { PartNumber: number, ETag, ...(ChecksumCRC32 !== undefined && { ChecksumCRC32 }) };
    });
    this.#parts.set(number, done);
  }

  /** AWS takes checksums of parts only in an upload that was begun with their algorithm, and wants them once more when it is complete. */
  #checksum() {
    return this.#connection.settings.checksums ? { ChecksumAlgorithm: 'CRC32' as const } : {};
  }

  async #begin(signal: AbortSignal): Promise<string> {
    const { sdk, settings } = this.#connection;
    const input = { ...newObject(settings, keyOf(settings, this.#name)), Metadata: { [WRITER]: this.#writer }, ...this.#checksum() };
    return this.#connection.ask({ action: `begin ${this.#name}`, writes: true, signal }, async (client, options) => {
      const { UploadId } = await client.send(new sdk.CreateMultipartUploadCommand(input), options);
      if (UploadId === undefined) throw new Error('the answer says no upload id');
      return UploadId;
    });
  }

  async complete(count: number, size: number): Promise<void> {
    await this.#refuseTaken({ always: true });
    const upload = await this.#upload;
    const { sdk, settings } = this.#connection;
    const parts = Array.from({ length: count }, (_, index) => this.#parts.get(index + 1)).filter((part) => part !== undefined);
    assert(parts.length === count, `${this.#name} has ${parts.length} parts of ${count}`);
    const input = {
      ...anObject(settings, keyOf(settings, this.#name)),
      UploadId: upload,
      MultipartUpload: { Parts: parts },
      // Some servers overlook it here; then the look before and the look after are what there is.
      ...(this.#options.ifAbsent && this.#options.conditional && { IfNoneMatch: '*' }),
    };
    this.#mayBeThere = true;
    await this.#connection.ask({ action: `complete ${this.#name}`, writes: true }, async (client, options) => {
      try {
        await client.send(new sdk.CompleteMultipartUploadCommand(input), options);
      } catch (error) {
        // Completed by an attempt whose answer was lost, or taken, or removed by a check: the look below knows.
        if (!isRefusedCondition(error) && faultOf(error).name !== 'NoSuchUpload') throw error;
      }
    });
    const seen = await this.#confirm(size);
    if (!(await this.#settleVersions(seen.versionId))) throw this.#exists();
  }

  /** Where the server does not decide by itself, a look before: under a lease there is nobody else. */
  async #refuseTaken(look: { readonly always: boolean } = { always: false }): Promise<void> {
    const { lockMode } = this.#connection.settings;
    if (!this.#options.ifAbsent) {
      const before = lockMode && (await meantVersion(this.#connection, this.#name));
      if (before) await refuseProtected(this.#connection, this.#name, before);
      return;
    }
    if (lockMode) {
      // A delete marker hides what is there from every condition of the server.
      const found = await meantVersion(this.#connection, this.#name);
      if (found && !(await this.#isOurs(found))) throw this.#exists();
    } else if (look.always || !this.#options.conditional) {
      const seen = await lookAt(this.#connection, this.#name);
      if (seen && seen.writer !== this.#writer) throw this.#exists();
    }
  }

  /** Is what is there now the one that we wrote, in full? */
  async #confirm(size: number): Promise<LookedAt> {
    const seen = await lookAt(this.#connection, this.#name);
    if (seen?.writer === this.#writer) {
      if (seen.size === size) return seen;
      throw this.#failed(`${this.#name} is ${seen.size} bytes long, ${size} were written`);
    }
    if (seen && this.#options.ifAbsent) {
      // Not ours and taken: ours, if it ever was there, is gone or hidden.
      throw this.#exists();
    }
    throw this.#failed(
      seen ? `${this.#name} was replaced by another writer at once` : `the upload of ${this.#name} was removed while it was written`,
    );
  }

  /**
   * Under Object Lock every writer leaves a version. Of a blob that replaces, the older ones go: only then the name means the new one. Who creates
   * must be alone; two writers at once both see it and both give way, because not every server decides the condition in one step where it keeps versions.
   */
  async #settleVersions(versionId: string | undefined): Promise<boolean> {
    if (!this.#connection.settings.lockMode || versionId === undefined) return true;
    if (!this.#options.ifAbsent) {
      await deleteVersions(this.#connection, this.#name, versionId);
      return true;
    }
    const versions = await this.#versions();
    if (versions.length === 1 && versions[0]?.versionId === versionId) return true;
    const ours = await this.#oursAmong(versions);
    // Attempts whose answers were lost have left versions too. The oldest is what the name means; nobody has read any other.
    const isAlone = ours.length > 0 && ours.length === versions.length;
    for (const version of isAlone ? ours.slice(0, -1) : ours) await removeVersion(this.#connection, version);
    return isAlone;
  }

  async abort(): Promise<void> {
    await this.#abortUpload();
    if (!this.#mayBeThere || !this.#options.ifAbsent) return;
    if (this.#connection.settings.lockMode) {
      // Somebody else's version may hide ours.
      for (const version of await this.#oursAmong(await this.#versions())) await removeVersion(this.#connection, version);
      return;
    }
    const seen = await lookAt(this.#connection, this.#name);
    if (seen?.writer === this.#writer) await deleteVersion(this.#connection, this.#name, seen.versionId);
  }

  /** From the newest to the oldest. */
  async #versions(): Promise<readonly FoundVersion[]> {
    return (await versionsOf(this.#connection, this.#name)).filter(({ isMarker }) => !isMarker);
  }

  async #oursAmong(versions: readonly FoundVersion[]): Promise<readonly FoundVersion[]> {
    const ours: FoundVersion[] = [];
    for (const version of versions) if (await this.#isOurs(version)) ours.push(version);
    return ours;
  }

  async #isOurs({ versionId }: ObjectVersion): Promise<boolean> {
    return (await lookAt(this.#connection, this.#name, versionId))?.writer === this.#writer;
  }

  async #abortUpload(): Promise<void> {
    const upload = await this.#upload?.catch(() => undefined); // it never began; one whose answer was lost is found by the next check
    if (upload === undefined) return;
    const { settings } = this.#connection;
    await abortUpload(this.#connection, keyOf(settings, this.#name), upload);
  }

  #exists(): ChainkeepError {
    const { place } = this.#connection.settings;
    return new ChainkeepError('BLOB_EXISTS', `${this.#name} exists in ${place}`, { context: { place, name: this.#name } });
  }

  #failed(what: string): ChainkeepError {
    const { place } = this.#connection.settings;
    return new ChainkeepError('STORE_FAILED', what, {
      advice: 'nothing was committed; run it again, and look whether another program writes into the bucket',
      context: { place, name: this.#name },
    });
  }
}

export function s3Target(connection: S3Connection, name: string, options: TargetOptions): PartTarget {
  return new S3Target(connection, name, options);
}

/** Gives the parts of an unfinished upload back; one that is not there is no error. */
export async function abortUpload(connection: S3Connection, key: string, upload: string): Promise<void> {
  const { sdk, settings } = connection;
  await connection.ask({ action: `abort the upload of ${key}`, writes: true }, async (client, options) => {
    try {
      await client.send(new sdk.AbortMultipartUploadCommand({ Bucket: settings.bucket, Key: key, UploadId: upload }), options);
    } catch (error) {
      if (faultOf(error).name !== 'NoSuchUpload' && faultOf(error).status !== 404) throw error;
    }
  });
}
