// Listings of a bucket: objects below a prefix, and uploads that nobody has finished.
// It must not answer a part of a listing as the whole: a page that fails is an error.

import { isForeignFolder } from '../blob-name.ts';
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
    token = page.IsTruncated === true ? page.NextContinuationToken : undefined;
    if (page.IsTruncated === true && token === undefined) throw new Error('a cut listing without a way to go on');
  }
}

/** Consoles of S3 make "folders": objects without bytes whose name ends in a slash. Those, and what storage boxes keep for themselves, are no blobs. */
export function isBlob({ name }: BlobInfo): boolean {
  const segments = name.split('/');
  const file = segments.pop();
  return file !== '' && !segments.some(isForeignFolder);
}

export interface UnfinishedUpload extends Leftover {
  readonly key: string;
  readonly upload: string;
}

/** Uploads below `prefix` with the bytes of their parts, which are paid for and seen by no listing of objects. */
export async function* listUploads(connection: S3Connection, prefix: string): AsyncGenerator<UnfinishedUpload> {
  const { settings, sdk } = connection;
  const where = { Bucket: settings.bucket, Prefix: keyOf(settings, prefix) };
  let next: { KeyMarker?: string; UploadIdMarker?: string } | undefined = {};
  while (next) {
    const from: { KeyMarker?: string; UploadIdMarker?: string } = next;
    const page = await connection.ask({ action: 'list unfinished uploads' }, (client, options) =>
      client.send(new sdk.ListMultipartUploadsCommand({ ...where, ...from }), options),
    );
    for (const { Key: key, UploadId: upload, Initiated } of page.Uploads ?? []) {
      if (key === undefined || upload === undefined || !key.startsWith(where.Prefix)) continue;
      const size = await bytesOfParts(connection, key, upload);
      if (size === undefined) continue;
      yield { name: `${key.slice(settings.prefix.length)}.upload-${upload}`, key, upload, size, modifiedAt: Initiated?.getTime() ?? 0 };
    }
    const more = page.IsTruncated === true && page.NextKeyMarker !== undefined;
    next = more ? nextPage(page) : undefined;
  }
}

function nextPage(page: { NextKeyMarker?: string | undefined; NextUploadIdMarker?: string | undefined }) {
  return {
    ...(page.NextKeyMarker !== undefined && { KeyMarker: page.NextKeyMarker }),
    ...(page.NextUploadIdMarker !== undefined && { UploadIdMarker: page.NextUploadIdMarker }),
  };
}

/** Undefined for an upload that has ended since it was listed. */
async function bytesOfParts({ settings, sdk, ask }: S3Connection, key: string, upload: string): Promise<number | undefined> {
  let bytes = 0;
  for (let marker: string | undefined, first = true; first || marker !== undefined; first = false) {
    const input = { Bucket: settings.bucket, Key: key, UploadId: upload, ...(marker !== undefined && { PartNumberMarker: marker }) };
    const page = await ask({ action: 'list the parts of an unfinished upload' }, async (client, options) => {
      try {
        return await client.send(new sdk.ListPartsCommand(input), options);
      } catch (error) {
        if (faultOf(error).status === 404) return undefined;
        throw error;
      }
    });
    if (!page) return undefined;
    for (const part of page.Parts ?? []) bytes += part.Size ?? 0;
    marker = page.IsTruncated === true ? page.NextPartNumberMarker : undefined;
  }
  return bytes;
}
