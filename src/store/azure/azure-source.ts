// Ranges of one blob, each request bound to the ETag that opening found: never bytes of two blobs in one.
// It must not cache or read ahead; that is the shared source's.

import { createHash } from 'node:crypto';
import type { BlobClient } from '@azure/storage-blob';
import type { ByteSource } from '../../plumbing/byte-source.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
import type { BlockCache } from '../object/block-cache.ts';
import { BLOCK_BYTES, openObjectSource } from '../object/object-source.ts';
import { openMeant } from '../object/open-meant.ts';
import type { AzureContainer } from './azure-container.ts';
import { azureCodeOf } from './azure-errors.ts';
import { meantVersion, versionsOf } from './azure-versions.ts';

/** The service answers with a digest of a range up to this size. */
const MOST_DIGESTED = 4 * 2 ** 20;

export interface OpenBlob {
  readonly container: AzureContainer;
  readonly cache: BlockCache;
  /** Blobs have versions, and a name means what `meantVersion` says. */
  readonly versioned: boolean;
}

/** One request where blobs have no versions, two where they have. BLOB_NOT_FOUND when there is none. */
export async function openAzureSource({ container, cache, versioned }: OpenBlob, name: string): Promise<ByteSource> {
  const client = container.client.getBlobClient(container.keyOf(name));
  if (!versioned) return openRanges({ container, blob: client, name }, cache);
  const look = async (): Promise<BlobClient> => {
    const version = meantVersion(await versionsOf(container, name));
    if (!version) throw new ChainkeepError('BLOB_NOT_FOUND', `there is no ${name} in ${container.place}`, { context: { name } });
    return version.versionId === undefined ? client : client.withVersion(version.versionId);
  };
  return openMeant(look, (blob) => openRanges({ container, blob, name }, cache));
}

async function openRanges(range: BlobRange, cache: BlockCache): Promise<ByteSource> {
  const { name } = range;
  const first = await readFirst(range);
  const readRange = async (offset: number, length: number, signal: AbortSignal): Promise<readonly Uint8Array[]> => {
    const { bytes } = await fetchRange({ ...range, etag: first.etag, signal }, offset, length);
    return [bytes];
  };
  return openObjectSource({ name, size: first.size, readRange }, cache, first.bytes);
}

interface BlobRange {
  readonly container: AzureContainer;
  readonly blob: BlobClient;
  readonly name: string;
  /** What must be read; left out when opening. */
  readonly etag?: string;
  readonly signal?: AbortSignal;
}

interface RangeAnswer {
  readonly bytes: Buffer;
  /** Of the whole blob. */
  readonly size: number;
  readonly etag: string;
}

async function readFirst(range: BlobRange): Promise<RangeAnswer> {
  try {
    return await fetchRange(range, 0, BLOCK_BYTES);
  } catch (error) {
    if (azureCodeOf(error) !== 'InvalidRange') throw error;
    // An empty blob has no range at all.
    return range.container.request({ action: 'read', name: range.name }, async ({ abortSignal }) => {
      const { contentLength: size = 0, etag = '' } = await range.blob.getProperties({ abortSignal });
      return size === 0
        ? { bytes: Buffer.alloc(0), size, etag }
        : Promise.reject(broken('BlobGrew', `${range.name} was written meanwhile`));
    });
  }
}

function fetchRange({ container, blob, name, etag, signal }: BlobRange, offset: number, length: number): Promise<RangeAnswer> {
  const condition = etag === undefined ? {} : { condition: 'same' as const };
  return container.request({ action: 'read', name, ...condition, ...(signal && { signal }) }, async ({ abortSignal, moved }) => {
    const answer = await blob.download(offset, length, {
      abortSignal,
      conditions: etag === undefined ? {} : { ifMatch: etag },
      rangeGetContentMD5: length <= MOST_DIGESTED,
      maxRetryRequests: 0, // a cut answer is asked for again as a whole
    });
    const place = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(answer.contentRange ?? '');
    const [from, to, size] = place ? place.slice(1).map(Number) : [0, (answer.contentLength ?? 0) - 1, answer.contentLength ?? 0];
    if (from !== offset || to === undefined || size === undefined) throw broken('IncompleteBody', `another range of ${name} came back`);
    const wanted = Math.min(length, size - offset);
    const bytes = await collect(answer.readableStreamBody, wanted, moved);
    if (bytes.byteLength !== wanted) throw broken('IncompleteBody', `${bytes.byteLength} of ${wanted} bytes of ${name} came back`);
    checkDigest(bytes, answer.contentMD5, name);
    return { bytes, size, etag: answer.etag ?? '' };
  });
}

/** Stops at once when more comes than was asked for. */
async function collect(stream: NodeJS.ReadableStream | undefined, wanted: number, moved: () => void): Promise<Buffer> {
  const bytes = Buffer.allocUnsafeSlow(wanted);
  let length = 0;
  for await (const chunk of stream ?? []) {
    const piece = Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk);
    if (length + piece.byteLength > wanted) throw broken('IncompleteBody', `more than ${wanted} bytes came back`);
    piece.copy(bytes, length);
    moved();
    length += piece.byteLength;
  }
  return bytes.subarray(0, length);
}

function checkDigest(bytes: Buffer, digest: Uint8Array | undefined, name: string): void {
  if (digest === undefined || createHash('md5').update(bytes).digest().equals(digest)) return;
  throw broken('Md5Mismatch', `${bytes.byteLength} bytes of ${name} were changed on their way`);
}

/** In the form of the client's errors: tried again like a cut connection. */
function broken(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}
