// The marker of a repository: which repository this place is, and which installation may write to it.

import type { Blake3 } from '../plumbing/blake3.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import type { BlobStore } from '../store/blob-store.ts';
import { readBlob, writeBlob } from './blobs.ts';
import { objectField, textField } from './fields.ts';
import { type Immutability, parseImmutability } from './immutability.ts';
import { MARKER_NAME } from './layout.ts';
import { encodeSealed, parseSealed } from './sealed-json.ts';

export interface Marker {
  readonly format: 1;
  readonly repository_id: string;
  /** Id of the one installation that writes here; all others read. */
  readonly owner: string;
  /** Settings of immutability; null where the repository is not immutable. */
  readonly immutability: Immutability | null;
  readonly created_at: string;
}

// A marker is a few hundred bytes; more is not ours.
const MOST_BYTES = 64 * 1024;

/** Undefined where the place has none. Throws REPOSITORY_INVALID for one that is damaged. */
export async function readMarker(store: BlobStore, blake3: Blake3): Promise<Marker | undefined> {
  const bytes = await readBlob(store, MARKER_NAME, { mostBytes: MOST_BYTES, refuse: (what) => invalid(store, what) });
  if (!bytes) return undefined;
  const unsealed = parseSealed(blake3, bytes);
  if ('fault' in unsealed) throw invalid(store, unsealed.fault);
  const { value } = unsealed;
  if (value.format !== 1) throw invalid(store, `it has format ${String(value.format)}, this version knows 1`);
  try {
    return {
      format: 1,
      repository_id: textField(value, 'repository_id', /^[a-z0-9-]{1,64}$/),
      owner: textField(value, 'owner', /^[a-z0-9-]{1,64}$/),
      immutability: value.immutability === null ? null : parseImmutability(objectField(value, 'immutability')),
      created_at: textField(value, 'created_at'),
    };
  } catch (error) {
    throw invalid(store, error instanceof Error ? error.message : String(error));
  }
}

/**
 * `replace` only to change the owner or the settings of an existing repository; a new one is created exactly once, whoever races. Not every store
 * replaces under a condition, so a take-over in the moment between the look and this is undone. There is one owner all the same, whoever wrote last:
 * the other one finds it before his next commit, for each reads the marker again.
 */
export async function writeMarker(store: BlobStore, blake3: Blake3, marker: Marker, options: { readonly replace: boolean }): Promise<void> {
  if (options.replace) await store.release(MARKER_NAME); // a marker is never protected by us; a copy of a repository may have come read-only
  await writeBlob(store, MARKER_NAME, encodeSealed(blake3, marker), { ifAbsent: !options.replace });
}

function invalid(store: BlobStore, what: string): ChainkeepError {
  return new ChainkeepError('REPOSITORY_INVALID', `the marker ${MARKER_NAME} in ${store.place} is damaged: ${what}`, {
    advice: 'restore the marker from a copy; backups beside it are not touched',
    context: { place: store.place },
  });
}
