// Locks of single versions: a locked time-based policy and a legal hold, both kept by Azure against everybody. Deletes go version by version.
// It must never call a blob protected, or a protected one deleted, without having Azure's word for it.

import { isoTime } from '../../plumbing/clock.ts';
import { ChainkeepError, isChainkeepError } from '../../plumbing/errors.ts';
import type { BlobProtection } from '../blob-store.ts';
import type { AzureContainer } from './azure-container.ts';
import { type AzureVersion, isProtected, meantVersion, protectionIn, type VersionedName, versionsOf } from './azure-versions.ts';

/** Azure keeps whole seconds: up, never down. */
const SECOND = 1000;

export async function protectVersion(container: AzureContainer, name: string, { until, hold }: BlobProtection): Promise<void> {
  const found = await versionsOf(container, name);
  const version = existing(meantVersion(found), name);
  if (until !== undefined) await extend(container, name, { version, until, now: found.now });
  if (hold !== undefined && hold !== version.hold) await setHold(container, name, { version, hold });
}

interface PolicyChange {
  readonly version: AzureVersion;
  readonly until: number;
  readonly now: number;
}

async function extend(container: AzureContainer, name: string, { version, until, now }: PolicyChange): Promise<void> {
  const present = version.until ?? 0;
  const expiry = Math.ceil(Math.max(until, present) / SECOND) * SECOND;
  if ((version.locked && present >= until) || expiry <= now) return;
  const answer = await container.request({ action: 'protect', name }, ({ abortSignal }) =>
    clientOf(container, version).setImmutabilityPolicy({ expiriesOn: new Date(expiry), policyMode: 'Locked' }, { abortSignal }),
  );
  const { immutabilityPolicyExpiry: kept, immutabilityPolicyMode: mode } = answer;
  if (mode?.toLowerCase() === 'locked' && kept !== undefined && kept.getTime() >= expiry) return;
  throw unprotected(
    name,
    `it was to be locked until ${isoTime(expiry)}; Azure says ${mode ?? 'nothing'} until ${kept?.toISOString() ?? 'no date'}`,
  );
}

async function setHold(
  container: AzureContainer,
  name: string,
  { version, hold }: { version: AzureVersion; hold: boolean },
): Promise<void> {
  const answer = await container.request({ action: 'protect', name }, ({ abortSignal }) =>
    clientOf(container, version).setLegalHold(hold, { abortSignal }),
  );
  if (answer.legalHold === hold) return;
  throw unprotected(name, `its hold was to be ${hold ? 'set' : 'lifted'}; Azure says ${answer.legalHold ?? 'nothing'}`);
}

export async function protectionOfName(container: AzureContainer, name: string): Promise<BlobProtection | undefined> {
  const found = await versionsOf(container, name);
  return protectionIn(existing(meantVersion(found), name), found.now);
}

/** Throws IMMUTABLE_RETENTION_ACTIVE or HOLD_ACTIVE while anything forbids to replace or delete the name. */
export function refuseProtected(name: string, { versions, now }: VersionedName): void {
  const kept = versions.filter((version) => isProtected(version, now));
  if (kept.length === 0) return;
  const until = Math.max(...kept.map((version) => version.until ?? 0));
  if (until > now) {
    throw new ChainkeepError('IMMUTABLE_RETENTION_ACTIVE', `${name} is locked until ${isoTime(until)}`, {
      advice: 'wait until then: nobody can shorten it',
      context: { name, retention_expires_at: isoTime(until) },
    });
  }
  throw new ChainkeepError('HOLD_ACTIVE', `${name} is under a legal hold`, { advice: 'lift the hold first', context: { name } });
}

/** Removes every version; refused while one of them is protected, and then nothing was removed. */
export async function deleteVersions(container: AzureContainer, name: string): Promise<void> {
  const found = await versionsOf(container, name);
  refuseProtected(name, found);
  // The current version has no delete of its own: without its id it becomes an earlier one.
  if (found.versions.some((version) => version.current)) {
    await unlessGone(
      container.request({ action: 'delete', name }, ({ abortSignal }) => container.client.getBlobClient(found.key).delete({ abortSignal })),
    );
  }
  for (const version of found.versions) {
    if (version.versionId === undefined) continue;
    await unlessGone(
      container.request({ action: 'delete', name }, ({ abortSignal }) => clientOf(container, version).delete({ abortSignal })),
    );
  }
}

/** What a replaced blob leaves behind is of no use and takes room; what somebody locked among it stays. */
export async function removeOlder(container: AzureContainer, name: string, versionId: string | undefined): Promise<void> {
  const { versions, now } = await versionsOf(container, name);
  for (const version of versions) {
    if (version.current || version.versionId === versionId || isProtected(version, now)) continue;
    await unlessGone(
      container.request({ action: 'delete', name }, ({ abortSignal }) => clientOf(container, version).delete({ abortSignal })),
    );
  }
}

function clientOf(container: AzureContainer, { key, versionId }: AzureVersion) {
  const client = container.client.getBlobClient(key);
  return versionId === undefined ? client : client.withVersion(versionId);
}

function existing(version: AzureVersion | undefined, name: string): AzureVersion {
  if (version) return version;
  throw new ChainkeepError('BLOB_NOT_FOUND', `there is no ${name} to protect`, { context: { name } });
}

function unprotected(name: string, what: string): ChainkeepError {
  return new ChainkeepError('STORE_FAILED', `${name} is not protected as asked: ${what}`, {
    advice: 'this server does not keep locks as Azure does: do not count on them',
    context: { name },
  });
}

async function unlessGone(request: Promise<unknown>): Promise<void> {
  try {
    await request;
  } catch (error) {
    if (!isChainkeepError(error, 'BLOB_NOT_FOUND')) throw error;
  }
}
