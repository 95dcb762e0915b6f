// Opens an object for reading: one request brings its size, its identity and its first bytes; every later one is bound to that identity.
// It must not read from another version than the one it opened.

import { Readable } from 'node:stream';
import type { GetObjectCommandInput } from '@aws-sdk/client-s3';
import type { ByteSource } from '../../plumbing/byte-source.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
import type { BlockCache } from '../object/block-cache.ts';
import { BLOCK_BYTES, openObjectSource, type RangeReader } from '../object/object-source.ts';
import type { S3Connection } from './s3-client.ts';
import { faultOf, isNotFound, isRefusedCondition } from './s3-errors.ts';
import { anObject, checkBucket, keyOf, lookAt, realVersion } from './s3-objects.ts';

interface Identity {
  readonly size: number;
  /** What later requests carry. */
  readonly bound: Pick<GetObjectCommandInput, 'IfMatch' | 'VersionId'>;
}

interface Opened extends Identity {
  readonly first: Buffer;
}

/** `versionId`: which one, where the caller has found out what the name means. BLOB_NOT_FOUND when there is none. */
export async function openS3Source(connection: S3Connection, cache: BlockCache, name: string, versionId?: string): Promise<ByteSource> {
  const opened = (await readFirst(connection, name, versionId)) ?? (await openEmpty(connection, name, versionId));
  const { size, bound } = opened;
  const reader: RangeReader = {
    name,
    size,
    readRange: (offset, length, signal) => readRange(connection, { name, bound, offset, length, signal }),
  };
  return openObjectSource(reader, cache, opened.first);
}

/** Undefined for an object without bytes, of which no range can be read. */
async function readFirst(connection: S3Connection, name: string, versionId: string | undefined): Promise<Opened | undefined> {
  const { settings, sdk } = connection;
  const input = {
    ...anObject(settings, keyOf(settings, name)),
    Range: `bytes=0-${BLOCK_BYTES - 1}`,
    ...(versionId !== undefined && { VersionId: versionId }),
  };
  return connection.ask({ action: `read ${name}` }, async (client, options) => {
    try {
      const answer = await client.send(new sdk.GetObjectCommand(input), options);
      const size = Number(/\/(\d+)$/.exec(answer.ContentRange ?? '')?.[1] ?? answer.ContentLength);
      const version = versionId ?? realVersion(answer.VersionId);
      if (!Number.isSafeInteger(size) || (version === undefined && answer.ETag === undefined))
        throw new Error('the answer says no size or no ETag');
      const first = Buffer.concat(await readBody(answer.Body, Math.min(size, BLOCK_BYTES)));
      return { size, first, bound: version === undefined ? { IfMatch: answer.ETag } : { VersionId: version } };
    } catch (error) {
      if (faultOf(error).status === 416) return undefined;
      if (isNotFound(error)) throw notFound(settings.place, name);
      throw error;
    }
  });
}

async function openEmpty(connection: S3Connection, name: string, versionId: string | undefined): Promise<Opened> {
  const found = await lookAt(connection, name, versionId);
  if (!found) {
    await checkBucket(connection);
    throw notFound(connection.settings.place, name);
  }
  if (found.size === 0) return { size: 0, first: Buffer.alloc(0), bound: {} };
  throw changed(name); // replaced between the two looks
}

interface Range {
  readonly name: string;
  readonly bound: Identity['bound'];
  readonly offset: number;
  readonly length: number;
  readonly signal: AbortSignal;
}

function readRange(connection: S3Connection, { name, bound, offset, length, signal }: Range): Promise<readonly Uint8Array[]> {
  const { settings, sdk } = connection;
  const input = { ...anObject(settings, keyOf(settings, name)), ...bound, Range: `bytes=${offset}-${offset + length - 1}` };
  return connection.ask({ action: `read ${name}`, signal }, async (client, options) => {
    try {
      const answer = await client.send(new sdk.GetObjectCommand(input), options);
      const { ContentRange = '' } = answer;
      if (ContentRange !== '' && !ContentRange.startsWith(`bytes ${offset}-`)) throw new Error(`another range came back: ${ContentRange}`);
      return await readBody(answer.Body, length);
    } catch (error) {
      if (isRefusedCondition(error) || isNotFound(error) || faultOf(error).status === 416) throw changed(name);
      throw error;
    }
  });
}

/** Exactly `length` bytes; less or more is a fault of the way, and worth another attempt. */
async function readBody(body: unknown, length: number): Promise<readonly Uint8Array[]> {
  if (!(body instanceof Readable)) throw new Error('the answer has no body');
  const pieces: Uint8Array[] = [];
  let done = 0;
  for await (const chunk of body) {
    if (!(chunk instanceof Uint8Array) || done + chunk.byteLength > length)
      throw new Error(`more than the ${length} bytes that were asked for came back`);
    pieces.push(chunk);
    done += chunk.byteLength;
  }
  if (done < length) throw new Error(`the answer ended after ${done} of ${length} bytes`);
  return pieces;
}

export function notFound(place: string, name: string): ChainkeepError {
  return new ChainkeepError('BLOB_NOT_FOUND', `there is no ${name} in ${place}`, { context: { place, name } });
}

function changed(name: string): ChainkeepError {
  return new ChainkeepError('BLOB_CHANGED', `${name} was replaced or deleted while it was open`, { context: { name } });
}
