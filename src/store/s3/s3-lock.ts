// Object Lock: dates and holds on the version that a name means, and deletes by version id.
// It must not shorten a date, and never asks the server to bypass one.

import { isoTime } from '../../plumbing/clock.ts';
import { ChainkeepError, isChainkeepError } from '../../plumbing/errors.ts';
import type { BlobProtection } from '../blob-store.ts';
import type { S3Connection } from './s3-client.ts';
import { faultOf, isNotFound } from './s3-errors.ts';
import { keyOf, type LookedAt, lookAt } from './s3-objects.ts';
import { notFound } from './s3-source.ts';
import { type FoundVersion, meantVersion, type ObjectVersion, versionsOf } from './s3-versions.ts';

/** BLOB_NOT_FOUND; NOT_SUPPORTED where the bucket was not made for it. */
export async function protectObject(connection: S3Connection, name: string, { until, hold }: BlobProtection): Promise<void> {
  const { versionId, seen } = await lookAtMeant(connection, name);
  if (until !== undefined) await lockUntil(connection, name, versionId, until, seen);
  if (hold !== undefined && hold !== seen.lock.hold) {
    const input = { ...whichOne(connection, name, versionId), LegalHold: { Status: hold ? ('ON' as const) : ('OFF' as const) } };
    await askForLock(connection, `${hold ? 'hold' : 'free'} ${name}`, (client, options) =>
      client.send(new connection.sdk.PutObjectLegalHoldCommand(input), options),
    );
    const kept = await lockOf(connection, name, versionId);
    if (kept?.hold !== hold) throw notKept(connection, name, `a hold was to be ${hold ? 'set' : 'lifted'}`);
  }
}

async function lockUntil(connection: S3Connection, name: string, versionId: string, until: number, { lock }: LookedAt): Promise<void> {
  const wanted = Math.ceil(until / 1000) * 1000; // the server keeps whole seconds
  const { lockMode } = connection.settings;
  const isWeaker = lock.mode === 'GOVERNANCE' && lockMode === 'COMPLIANCE';
  const date = Math.max(wanted, lock.until ?? 0);
  if ((date === lock.until && !isWeaker) || date <= connection.now()) return; // called again and again with the same date
  const Retention = { Mode: lock.mode === 'COMPLIANCE' ? lock.mode : lockMode, RetainUntilDate: new Date(date) };
  const input = { ...whichOne(connection, name, versionId), Retention };
  await askForLock(connection, `lock ${name}`, (client, options) =>
    client.send(new connection.sdk.PutObjectRetentionCommand(input), options),
  );
  const kept = await lockOf(connection, name, versionId);
  if (kept?.mode === Retention.Mode && (kept?.until ?? 0) >= date) return;
  throw notKept(connection, name, `it was to be locked until ${isoTime(date)} (${Retention.Mode})`);
}

/** Not every server does what it was told and answered: what it keeps is looked at. */
async function lockOf(connection: S3Connection, name: string, versionId: string): Promise<LookedAt['lock'] | undefined> {
  return (await lookAt(connection, name, versionId))?.lock;
}

function notKept({ settings }: S3Connection, name: string, what: string): ChainkeepError {
  return new ChainkeepError('STORE_FAILED', `${name} in ${settings.place} is not protected: ${what}, and the server does not show it`, {
    advice: 'the key needs s3:GetObjectRetention and s3:GetObjectLegalHold; if it has them, this server keeps no locks: do not count on it',
    context: { place: settings.place, name },
  });
}

export async function protectionOfObject(connection: S3Connection, name: string): Promise<BlobProtection | undefined> {
  const { seen } = await lookAtMeant(connection, name);
  return protectionIn(seen, connection.now());
}

function protectionIn({ lock }: LookedAt, now: number): BlobProtection | undefined {
  const until = lock.until !== undefined && lock.until > now ? lock.until : undefined;
  if (until === undefined && !lock.hold) return undefined;
  return { ...(until !== undefined && { until }), ...(lock.hold && { hold: true }) };
}

async function lookAtMeant(connection: S3Connection, name: string): Promise<{ versionId: string; seen: LookedAt }> {
  const version = await meantVersion(connection, name);
  const seen = version && (await lookAt(connection, name, version.versionId));
  if (!version || !seen) throw notFound(connection.settings.place, name);
  return { versionId: version.versionId, seen };
}

function whichOne({ settings }: S3Connection, name: string, versionId: string) {
  return { Bucket: settings.bucket, Key: keyOf(settings, name), VersionId: versionId };
}

/** A bucket without Object Lock answers InvalidRequest; that is no fault of the request. */
async function askForLock(connection: S3Connection, action: string, work: Parameters<S3Connection['ask']>[1]): Promise<void> {
  try {
    await connection.ask({ action, writes: true }, work);
  } catch (error) {
    const { name } = faultOf(isChainkeepError(error) ? error.cause : error);
    if (name !== 'InvalidRequest' && name !== 'ObjectLockConfigurationNotFoundError') throw error;
    throw new ChainkeepError('NOT_SUPPORTED', `cannot ${action}: the bucket ${connection.settings.bucket} has no Object Lock`, {
      advice: 'Object Lock is chosen when a bucket is made; use another bucket, or set use_object_lock=false',
      cause: error,
    });
  }
}

/** Throws IMMUTABLE_RETENTION_ACTIVE or HOLD_ACTIVE when the version that the name means is protected. */
export async function refuseProtected(connection: S3Connection, name: string, version: ObjectVersion): Promise<void> {
  const seen = await lookAt(connection, name, version.versionId);
  const protection = seen && protectionIn(seen, connection.now());
  if (protection) throw protectedError(connection, name, protection);
}

function protectedError({ settings }: S3Connection, name: string, { until, hold }: BlobProtection): ChainkeepError {
  if (until !== undefined) {
    const date = isoTime(until);
    return new ChainkeepError('IMMUTABLE_RETENTION_ACTIVE', `${name} in ${settings.place} is locked until ${date}`, {
      advice: 'the storage refuses it before that date, whoever asks',
      context: { place: settings.place, name, retention_expires_at: date },
    });
  }
  return new ChainkeepError('HOLD_ACTIVE', `${name} in ${settings.place} is under a legal hold`, {
    advice: 'lift the hold first: chainkeep hold --help',
    context: { place: settings.place, name, hold: hold ?? false },
  });
}

/** Every version of the name but `keep`, and the markers that hide it. Nothing is removed when one of them is protected. */
export async function deleteVersions(connection: S3Connection, name: string, keep?: string): Promise<void> {
  const versions = (await versionsOf(connection, name)).filter(({ versionId }) => versionId !== keep);
  // One version: the server itself is asked, and only its refusal is looked into.
  if (versions.length > 1) for (const version of versions) if (!version.isMarker) await refuseProtected(connection, name, version);
  for (const version of versions) await removeVersion(connection, version);
}

/** What the server refuses to delete is looked at: IMMUTABLE_RETENTION_ACTIVE or HOLD_ACTIVE where that is why. */
export async function removeVersion(connection: S3Connection, version: FoundVersion): Promise<void> {
  try {
    await deleteVersion(connection, version.name, version.versionId);
  } catch (error) {
    if (!version.isMarker) await refuseProtected(connection, version.name, version);
    throw error;
  }
}

export async function deleteVersion(connection: S3Connection, name: string, versionId: string | undefined): Promise<void> {
  const { settings, sdk } = connection;
  const which = { Bucket: settings.bucket, Key: keyOf(settings, name), ...(versionId !== undefined && { VersionId: versionId }) };
  await connection.ask({ action: `delete ${name}`, writes: true }, async (client, options) => {
    try {
      await client.send(new sdk.DeleteObjectCommand(which), options);
    } catch (error) {
      if (!isNotFound(error)) throw error; // gone already
    }
  });
}
