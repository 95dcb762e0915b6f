// How the parts of one blob reach Azure: as staged blocks, committed last, or a small blob as one upload. Only a commit makes a blob.
// It must not hold parts back or order them; that is the shared sink's.

import { createHash } from 'node:crypto';
import type { BlobRequestConditions, BlockBlobClient } from '@azure/storage-blob';
import { randomToken } from '../../plumbing/clock.ts';
import { ChainkeepError, isChainkeepError } from '../../plumbing/errors.ts';
import type { PartTarget } from '../object/part-sink.ts';
import { type Attempt, type AzureContainer, bodyOf } from './azure-container.ts';
import { azureCodeOf, azureError } from './azure-errors.ts';
import { WRITER } from './azure-list.ts';
import { removeStaged, stagedBlocks } from './azure-uncommitted.ts';

export interface UploadOptions {
  readonly ifAbsent: boolean;
  /** Throws where the name may not be written although Azure would allow it: a version is locked behind it. */
  readonly checkName: () => Promise<void>;
  /** Is told the version that replaced another one, where blobs have versions. */
  readonly afterReplace: (versionId: string | undefined) => Promise<void>;
}

interface FoundBlob {
  readonly writer: string | undefined;
  readonly etag: string;
  readonly versionId: string | undefined;
  readonly size: number;
}

class AzureUpload implements PartTarget {
  readonly #container: AzureContainer;
  readonly #name: string;
  readonly #options: UploadOptions;
  readonly #blob: BlockBlobClient;
  /** No other writer has it: blocks of several writers of one name lie in one list. */
  readonly #writer = randomToken(20);
  #staged = false;
  /** A commit was sent, and what became of it is not known. */
  #inDoubt = false;

  constructor(container: AzureContainer, name: string, options: UploadOptions) {
    this.#container = container;
    this.#name = name;
    this.#options = options;
    this.#blob = container.client.getBlockBlobClient(container.keyOf(name));
  }

  async putWhole(content: Uint8Array): Promise<void> {
    const transactionalContentMD5 = md5(content);
    const size = content.byteLength;
    const answer = await this.#publish((conditions, { abortSignal, moved }) =>
      this.#blob.upload(bodyOf(content, moved), size, {
        abortSignal,
        conditions,
        transactionalContentMD5,
        metadata: { [WRITER]: this.#writer },
      }),
    );
    await this.#settle(answer ?? (await this.#confirm(size)));
  }

  async uploadPart(number: number, content: Uint8Array, signal: AbortSignal): Promise<void> {
    this.#staged = true;
    const transactionalContentMD5 = md5(content);
    const bytes = content.byteLength;
    await this.#container.request({ action: 'write', name: this.#name, signal }, ({ abortSignal, moved }) =>
      this.#blob.stageBlock(this.#blockId(number), bodyOf(content, moved), bytes, { abortSignal, transactionalContentMD5 }),
    );
  }

  async complete(count: number, size: number): Promise<void> {
    const blocks = Array.from({ length: count }, (_, index) => this.#blockId(index + 1));
    await this.#publish((conditions, { abortSignal }) =>
      this.#blob.commitBlockList(blocks, { abortSignal, conditions, metadata: { [WRITER]: this.#writer } }),
    );
    await this.#settle(await this.#confirm(size));
  }

  async #settle({ versionId }: { readonly versionId?: string | undefined }): Promise<void> {
    this.#inDoubt = false;
    if (!this.#options.ifAbsent) await this.#options.afterReplace(versionId);
  }

  /**
   * Sends what makes the blob visible. Before it is sent again, and when it is refused, it looks whether it had arrived already; there is no answer
   * of the service then.
   */
  async #publish<Answer>(send: (conditions: BlobRequestConditions, attempt: Attempt) => Promise<Answer>): Promise<Answer | undefined> {
    const { ifAbsent, checkName } = this.#options;
    await checkName();
    const request = { action: 'write', name: this.#name, ...(ifAbsent && { condition: 'absent' as const }) } as const;
    return this.#container.request(request, async (attempt) => {
      if (attempt.count > 1 && (await this.#isOurs(attempt))) return undefined;
      this.#inDoubt = true;
      try {
        return await send(ifAbsent ? { ifNoneMatch: '*' } : {}, attempt);
      } catch (error) {
        const failure = azureError(error, { ...request, place: this.#container.place });
        const refused = azureCodeOf(failure) === 'InvalidBlockList';
        if (failure.retryable && !refused) throw failure;
        if (await this.#isOurs(attempt)) return undefined;
        this.#inDoubt = false; // refused, and nothing of ours is there
        if (refused && ifAbsent && (await this.#find(attempt))) throw this.#exists(failure);
        throw failure;
      }
    });
  }

  /** Whoever commits a name takes all other blocks of that name away. */
  #exists(cause: ChainkeepError): ChainkeepError {
    const context = { place: this.#container.place, name: this.#name };
    return new ChainkeepError('BLOB_EXISTS', `${this.#name} was made by another writer meanwhile`, { context, cause });
  }

  /** Is what is there now what was written, in full? */
  async #confirm(size: number): Promise<FoundBlob> {
    const found = await this.#container.request({ action: 'read', name: this.#name }, (attempt) => this.#find(attempt));
    if (found?.writer === this.#writer && found.size === size) return found;
    const seen = found ? `${found.size} bytes of ${found.writer === this.#writer ? 'it' : 'another writer'} are there` : 'nothing is there';
    throw new ChainkeepError('STORE_FAILED', `${this.#name} was written with ${size} bytes, and ${seen}`, {
      advice: 'run it again, and look whether another program writes into the container',
      context: { place: this.#container.place, name: this.#name, written_bytes: size, found_bytes: found?.size },
    });
  }

  async abort(): Promise<void> {
    if (this.#inDoubt && this.#options.ifAbsent) await this.#takeBack();
    this.#inDoubt = false;
    if (!this.#staged) return;
    const staged = await stagedBlocks(this.#container, this.#name);
    const mine = new Set(staged?.ids.map((id) => Buffer.from(id, 'base64').toString().startsWith(this.#writer)));
    if (mine.size === 1 && mine.has(true)) await removeStaged(this.#container, this.#name);
  }

  /** A create that was answered with an error must not be found later. */
  async #takeBack(): Promise<void> {
    const request = this.#container.request({ action: 'delete', name: this.#name, condition: 'same' }, async (attempt) => {
      const found = await this.#find(attempt);
      if (found?.writer !== this.#writer) return;
      const { abortSignal } = attempt;
      await this.#blob.delete({ abortSignal, conditions: { ifMatch: found.etag } });
      if (found.versionId !== undefined) await this.#blob.withVersion(found.versionId).delete({ abortSignal });
    });
    await request.catch((error: unknown) => {
      if (!isChainkeepError(error, 'BLOB_CHANGED')) throw error; // gone or replaced: that was not ours
    });
  }

  async #isOurs(attempt: Attempt): Promise<boolean> {
    return (await this.#find(attempt))?.writer === this.#writer;
  }

  async #find({ abortSignal }: Attempt): Promise<FoundBlob | undefined> {
    try {
      const { metadata, etag = '', versionId, contentLength: size = 0 } = await this.#blob.getProperties({ abortSignal });
      return { writer: metadata?.[WRITER], etag, versionId, size };
    } catch (error) {
      const failure = azureError(error, { place: this.#container.place, action: 'read', name: this.#name });
      if (isChainkeepError(failure, 'BLOB_NOT_FOUND')) return undefined;
      throw failure;
    }
  }

  /** All of one length, as Azure demands of the blocks of a blob; and none is another one with a bit changed. */
  #blockId(number: number): string {
    const place = String(number).padStart(6, '0');
    const check = createHash('sha256')
      .update(this.#writer + place)
      .digest('hex')
      .slice(0, 8);
    return Buffer.from(this.#writer + place + check).toString('base64');
  }
}

function md5(content: Uint8Array): Buffer {
  return createHash('md5').update(content).digest();
}

export function openAzureUpload(container: AzureContainer, name: string, options: UploadOptions): PartTarget {
  return new AzureUpload(container, name, options);
}
