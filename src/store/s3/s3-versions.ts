// What a name means in a bucket that keeps versions under Object Lock: a plain PUT or DELETE of anybody only hides what is locked.
// The oldest version that is still locked; without one the oldest. Delete markers are ignored: we never make any.

import type { ListObjectVersionsCommandInput, ListObjectVersionsCommandOutput } from '@aws-sdk/client-s3';
import type { BlobInfo } from '../blob-store.ts';
import type { S3Connection } from './s3-client.ts';
import { nextOf } from './s3-list.ts';
import { keyOf, lookAt } from './s3-objects.ts';

export interface ObjectVersion extends BlobInfo {
  readonly versionId: string;
}

export interface FoundVersion extends ObjectVersion {
  readonly isMarker: boolean;
}

/** All versions and delete markers below `prefix`, names ascending, the versions of a name from the newest to the oldest. */
async function* walkVersions(connection: S3Connection, prefix: string): AsyncGenerator<FoundVersion> {
  const { settings, sdk } = connection;
  const where = { Bucket: settings.bucket, Prefix: keyOf(settings, prefix) };
  const strip = settings.prefix.length;
  let from: Pick<ListObjectVersionsCommandInput, 'KeyMarker' | 'VersionIdMarker'> = {};
  for (let first = true; first || from.KeyMarker !== undefined; first = false) {
    const input = { ...where, ...from };
    const action = `list the versions of ${prefix || 'all blobs'}`;
    const page: ListObjectVersionsCommandOutput = await connection.ask({ action }, (client, options) =>
      client.send(new sdk.ListObjectVersionsCommand(input), options),
    );
    const found: FoundVersion[] = [
      ...(page.Versions ?? []).map((version) => describe(version, strip, false)),
      ...(page.DeleteMarkers ?? []).map((marker) => describe(marker, strip, true)),
    ];
    // The answer has two lists; each is sorted, and a stable sort by name keeps the order of versions.
    yield* found.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
    from = { KeyMarker: nextOf(connection, page.IsTruncated, page.NextKeyMarker), VersionIdMarker: page.NextVersionIdMarker };
  }
}

function describe(
  found: { Key?: string; VersionId?: string; Size?: number; LastModified?: Date },
  strip: number,
  isMarker: boolean,
): FoundVersion {
  return {
    name: (found.Key ?? '').slice(strip),
    versionId: found.VersionId ?? 'null',
    size: found.Size ?? 0,
    modifiedAt: found.LastModified?.getTime() ?? 0,
    isMarker,
  };
}

/** What each name below `prefix` means. */
export async function* listMeant(connection: S3Connection, prefix: string): AsyncGenerator<ObjectVersion> {
  for await (const { versions } of groupByName(walkVersions(connection, prefix))) {
    const meant = await chooseVersion(connection, versions);
    if (meant) yield meant;
  }
}

interface NamedVersions {
  readonly name: string;
  readonly versions: readonly FoundVersion[];
}

async function* groupByName(found: AsyncIterable<FoundVersion>): AsyncGenerator<NamedVersions> {
  let group: FoundVersion[] = [];
  for await (const version of found) {
    const [first] = group;
    if (first && first.name !== version.name) {
      yield { name: first.name, versions: group };
      group = [];
    }
    group.push(version);
  }
  const [first] = group;
  if (first) yield { name: first.name, versions: group };
}

/** Every version and marker of exactly this name, from the newest to the oldest. */
export async function versionsOf(connection: S3Connection, name: string): Promise<readonly FoundVersion[]> {
  const versions: FoundVersion[] = [];
  for await (const version of walkVersions(connection, name)) {
    if (version.name === name) versions.push(version);
    if (version.name > name) break;
  }
  return versions;
}

export async function meantVersion(connection: S3Connection, name: string): Promise<ObjectVersion | undefined> {
  return chooseVersion(connection, await versionsOf(connection, name));
}

/** One version is the rule, and costs no further request. */
async function chooseVersion(connection: S3Connection, found: readonly FoundVersion[]): Promise<ObjectVersion | undefined> {
  const fromOldest = found.filter(({ isMarker }) => !isMarker).reverse();
  if (fromOldest.length < 2) return fromOldest[0];
  for (const version of fromOldest) if (await isLocked(connection, version)) return version;
  return fromOldest[0];
}

async function isLocked(connection: S3Connection, { name, versionId }: ObjectVersion): Promise<boolean> {
  const seen = await lookAt(connection, name, versionId);
  return seen !== undefined && (seen.lock.hold || (seen.lock.until ?? 0) > connection.now());
}

/** Bytes of every version below the prefix, hidden ones too: all of them are paid for. */
export async function bytesOfVersions(connection: S3Connection): Promise<number> {
  let bytes = 0;
  for await (const { size } of walkVersions(connection, '')) bytes += size;
  return bytes;
}
