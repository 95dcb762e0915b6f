// What a name means where blobs have versions: the oldest that is still locked, else the current one. A plain delete or upload by somebody else only
// hides a version. It must not change anything.

import type { BlobItem } from '@azure/storage-blob';
import type { BlobProtection } from '../blob-store.ts';
import type { AzureContainer } from './azure-container.ts';
import { type ListOptions, listPages } from './azure-list.ts';

export interface AzureVersion {
  readonly key: string;
  /** Undefined in an account that keeps no versions. */
  readonly versionId: string | undefined;
  readonly current: boolean;
  readonly size: number;
  readonly modifiedAt: number;
  /** Milliseconds since 1970; not before this can it be deleted. */
  readonly until: number | undefined;
  /** Nobody can shorten the date. */
  readonly locked: boolean;
  readonly hold: boolean;
}

/** All versions of one name, the oldest first. */
export interface VersionedName {
  readonly key: string;
  readonly versions: readonly AzureVersion[];
  readonly now: number;
}

const INCLUDE: ListOptions = { includeVersions: true, includeImmutabilityPolicy: true, includeLegalHold: true };
/** A blob has one version almost always, and names that go on behind its own follow it. */
const FEW = 16;

export function isProtected(version: AzureVersion, now: number): boolean {
  return version.hold || (version.until !== undefined && version.until > now);
}

/** Undefined where the name is free: nothing, or only versions that were deleted and may go. */
export function meantVersion({ versions, now }: VersionedName): AzureVersion | undefined {
  return versions.find((version) => isProtected(version, now)) ?? versions.find((version) => version.current);
}

/** What is still in force at this moment; undefined for nothing. */
export function protectionIn(version: AzureVersion, now: number): BlobProtection | undefined {
  const until = version.until !== undefined && version.until > now ? { until: version.until } : {};
  const hold = version.hold ? { hold: true } : {};
  return isProtected(version, now) ? { ...until, ...hold } : undefined;
}

/** Every name below the prefix with its versions. */
export async function* listVersions(container: AzureContainer, prefix: string): AsyncGenerator<VersionedName> {
  let group: AzureVersion[] = [];
  let clock = Number.NaN;
  for await (const { items, now } of listPages(container, prefix, INCLUDE)) {
    clock = now();
    for (const item of items) {
      const [first] = group;
      if (first && first.key !== item.name) {
        yield { key: first.key, versions: group, now: clock };
        group = [];
      }
      group.push(versionOf(item));
    }
  }
  const [last] = group;
  if (last) yield { key: last.key, versions: group, now: clock };
}

export async function versionsOf(container: AzureContainer, name: string): Promise<VersionedName> {
  const key = container.keyOf(name);
  const versions: AzureVersion[] = [];
  let clock = Number.NaN;
  for await (const { items, now } of listPages(container, name, { ...INCLUDE, pageSize: FEW })) {
    clock = now();
    versions.push(...items.filter((item) => item.name === key).map(versionOf));
    if (items.some((item) => item.name !== key)) break;
  }
  return { key, versions, now: clock };
}

function versionOf({ name, versionId, isCurrentVersion, properties }: BlobItem): AzureVersion {
  const { immutabilityPolicyExpiresOn: until, immutabilityPolicyMode: mode } = properties;
  return {
    key: name,
    versionId,
    current: isCurrentVersion ?? versionId === undefined,
    size: properties.contentLength ?? 0,
    modifiedAt: properties.lastModified.getTime(),
    until: until?.getTime(),
    locked: mode?.toLowerCase() === 'locked',
    hold: properties.legalHold ?? false,
  };
}
