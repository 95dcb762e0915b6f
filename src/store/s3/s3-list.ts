// Listings of a bucket: objects below a prefix, and uploads that nobody has finished.
// It must not answer a part of a listing as the whole: a page that fails is an error.

import type { ListMultipartUploadsCommandInput, ListMultipartUploadsCommandOutput } from '@aws-sdk/client-s3';
import { ChainkeepError } from '../../plumbing/errors.ts';
import type { BlobInfo, Leftover } from '../blob-store.ts';
import type { S3Connection } from './s3-client.ts';
import { faultOf } from './s3-errors.ts';
import { keyOf } from './s3-objects.ts';

export async function* listObjects(connection: S3Connection, prefix: string): AsyncGenerator<BlobInfo> {
  const { settings, sdk } = connection;
  const where = { Bucket: settings.bucket, Prefix: keyOf(settings, prefix) };
  for (let token: string | undefined, first = true; first || token !== undefined; first = false) {
    const input = { ...where, ...(token !== undefined && { ContinuationToken: token }) };
    const page = await connection.ask({ action: `list ${prefix || 'all blobs'}` }, (client, options) =>
      client.send(new sdk.ListObjectsV2Command(input), options),
    );
    for (const object of page.Contents ?? []) {
      yield {
        name: (object.Key ?? '').slice(settings.prefix.length),
        size: object.Size ?? 0,
        modifiedAt: object.LastModified?.getTime() ?? 0,
      };
    }
    token = nextOf(connection, page.IsTruncated, page.NextContinuationToken);
  }
}

/** Where a listing goes on; undefined at its end. STORE_FAILED for one that is cut and does not say where: what it leaves out would count as missing. */
export function nextOf({ settings }: S3Connection, isCut: boolean | undefined, next: string | undefined): string | undefined {
  if (isCut !== true) return undefined;
  if (next !== undefined && next !== '') return next;
  throw new ChainkeepError('STORE_FAILED', `${settings.place} cut a listing short and does not say where it goes on`, {
    advice: 'look at what lies between here and the server, and at its version: backups would seem to be missing',
    context: { place: settings.place },
  });
}

export interface UnfinishedUpload extends Leftover {
  readonly key: string;
  readonly upload: string;
}

/** Uploads below `prefix` with the bytes of their parts, which are paid for and seen by no listing of objects. */
export async function* listUploads(connection: S3Connection, prefix: string): AsyncGenerator<UnfinishedUpload> {
  const { settings, sdk } = connection;
  const where = { Bucket: settings.bucket, Prefix: keyOf(settings, prefix) };
  let from: Pick<ListMultipartUploadsCommandInput, 'KeyMarker' | 'UploadIdMarker'> = {};
  for (let first = true; first || from.KeyMarker !== undefined; first = false) {
    const input = { ...where, ...from };
    const page: ListMultipartUploadsCommandOutput = await connection.ask({ action: 'list unfinished uploads' }, (client, options) =>
      client.send(new sdk.ListMultipartUploadsCommand(input), options),
    );
    for (const { Key: key, UploadId: upload, Initiated } of page.Uploads ?? []) {
      if (key === undefined || upload === undefined || !key.startsWith(where.Prefix)) continue;
      const size = await bytesOfParts(connection, key, upload);
      if (size === undefined) continue;
      yield { name: `${key.slice(settings.prefix.length)}.upload-${upload}`, key, upload, size, modifiedAt: Initiated?.getTime() ?? 0 };
    }
    from = { KeyMarker: nextOf(connection, page.IsTruncated, page.NextKeyMarker), UploadIdMarker: page.NextUploadIdMarker };
  }
}

/** Undefined for an upload that has ended since it was listed. */
async function bytesOfParts(connection: S3Connection, key: string, upload: string): Promise<number | undefined> {
  const { settings, sdk } = connection;
  let bytes = 0;
  for (let marker: string | undefined, first = true; first || marker !== undefined; first = false) {
    const input = { Bucket: settings.bucket, Key: key, UploadId: upload, ...(marker !== undefined && { PartNumberMarker: marker }) };
    const page = await connection.ask({ action: 'list the parts of an unfinished upload' }, async (client, options) => {
      try {
        return await client.send(new sdk.ListPartsCommand(input), options);
      } catch (error) {
        if (faultOf(error).status === 404) return undefined;
        throw error;
      }
    });
    if (!page) return undefined;
    for (const part of page.Parts ?? []) bytes += part.Size ?? 0;
    marker = nextOf(connection, page.IsTruncated, page.NextPartNumberMarker);
  }
  return bytes;
}
