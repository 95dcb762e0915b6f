// How the parts of one blob reach Azure: as staged blocks, committed last, or a small blob as one upload. Only a commit makes a blob.
// It must not hold parts back or order them; that is the shared sink's.

import { createHash } from 'node:crypto';
import type { BlobRequestConditions, BlockBlobClient } from '@azure/storage-blob';
import { randomToken } from '../../plumbing/clock.ts';
import { ChainkeepError, isChainkeepError } from '../../plumbing/errors.ts';
import type { PartTarget } from '../object/part-sink.ts';
import type { AzureContainer } from './azure-container.ts';
import { azureCodeOf, azureError } from './azure-errors.ts';
import { removeStaged, stagedBlocks } from './azure-uncommitted.ts';

/** Metadata of a blob that says which writer made it: a commit whose answer was lost is known by it. */
const WRITER = 'chainkeepwriter';

export interface UploadOptions {
  readonly ifAbsent: boolean;
  /** Throws where the name may not be written although Azure would allow it: a version is locked behind it. */
  readonly checkName: () => Promise<void>;
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
    await this.#publish(content.byteLength, (conditions, abortSignal) =>
      this.#blob.upload(content, content.byteLength, {
        abortSignal,
        conditions,
        transactionalContentMD5,
        metadata: { [WRITER]: this.#writer },
      }),
    );
  }

  async uploadPart(number: number, content: Uint8Array, signal: AbortSignal): Promise<void> {
    this.#staged = true;
    const transactionalContentMD5 = md5(content);
    const bytes = content.byteLength;
    await this.#container.request({ action: 'write', name: this.#name, bytes, signal }, (abortSignal) =>
      this.#blob.stageBlock(this.#blockId(number), content, bytes, { abortSignal, transactionalContentMD5 }),
    );
  }

  async complete(count: number): Promise<void> {
    const blocks = Array.from({ length: count }, (_, index) => this.#blockId(index + 1));
    await this.#publish(0, (conditions, abortSignal) =>
      this.#blob.commitBlockList(blocks, { abortSignal, conditions, metadata: { [WRITER]: this.#writer } }),
    );
  }

  /** Sends what makes the blob visible. Before it is sent again, and when it is refused, it looks whether it had arrived already. */
  async #publish(bytes: number, send: (conditions: BlobRequestConditions, signal: AbortSignal) => Promise<unknown>): Promise<void> {
    const { ifAbsent, checkName } = this.#options;
    await checkName();
    const request = { action: 'write', name: this.#name, bytes, ...(ifAbsent && { condition: 'absent' as const }) } as const;
    await this.#container.request(request, async (abortSignal, attempt) => {
      if (attempt > 1 && (await this.#isOurs(abortSignal))) return;
      this.#inDoubt = true;
      try {
        await send(ifAbsent ? { ifNoneMatch: '*' } : {}, abortSignal);
      } catch (error) {
        const failure = azureError(error, { ...request, place: this.#container.place });
        if (failure.retryable) throw failure;
        if (await this.#isOurs(abortSignal)) return;
        this.#inDoubt = false; // refused, and nothing of ours is there
        throw azureCodeOf(failure) === 'InvalidBlockList' ? await this.#blocksLost(failure, abortSignal) : failure;
      }
    });
    this.#inDoubt = false;
  }

  /** Whoever commits a name takes all other blocks of that name away, and so does a sweep. */
  async #blocksLost(cause: ChainkeepError, abortSignal: AbortSignal): Promise<ChainkeepError> {
    const context = { place: this.#container.place, name: this.#name };
    if (this.#options.ifAbsent && (await this.#writerOf(abortSignal)) !== undefined) {
      return new ChainkeepError('BLOB_EXISTS', `${this.#name} was made by another writer meanwhile`, { context, cause });
    }
    return new ChainkeepError(
      'STORE_FAILED',
      `blocks of ${this.#name} are gone: another writer wrote it, or they were taken for leftovers`,
      {
        advice: 'nothing was committed; run it again',
        context,
        cause,
      },
    );
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
    const name = this.#name;
    await this.#container.request({ action: 'delete', name }, async (abortSignal) => {
      const made = await this.#writerOf(abortSignal);
      if (made?.writer !== this.#writer) return;
      await this.#blob.delete({ abortSignal, conditions: { ifMatch: made.etag } });
      if (made.versionId !== undefined) await this.#blob.withVersion(made.versionId).delete({ abortSignal });
    });
  }

  async #isOurs(abortSignal: AbortSignal): Promise<boolean> {
    return (await this.#writerOf(abortSignal))?.writer === this.#writer;
  }

  async #writerOf(abortSignal: AbortSignal): Promise<{ writer: string | undefined; etag: string; versionId?: string } | undefined> {
    try {
      const { metadata, etag = '', versionId } = await this.#blob.getProperties({ abortSignal });
      return { writer: metadata?.[WRITER], etag, ...(versionId !== undefined && { versionId }) };
    } catch (error) {
      const failure = azureError(error, { place: this.#container.place, action: 'read', name: this.#name });
      if (isChainkeepError(failure, 'BLOB_NOT_FOUND')) return undefined;
      throw failure;
    }
  }

  /** All of one length, as Azure demands of the blocks of a blob. */
  #blockId(number: number): string {
    return Buffer.from(this.#writer + String(number).padStart(6, '0')).toString('base64');
  }
}

function md5(content: Uint8Array): Buffer {
  return createHash('md5').update(content).digest();
}

export function openAzureUpload(container: AzureContainer, name: string, options: UploadOptions): PartTarget {
  return new AzureUpload(container, name, options);
}
