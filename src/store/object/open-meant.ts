// Opens what a name means where it means one of several versions: two requests, between which a writer may replace the blob and remove the version.
// It must not say "not there" of a blob that only changed.

import type { ByteSource } from '../../plumbing/byte-source.ts';
import { isChainkeepError } from '../../plumbing/errors.ts';

/** How often the version that a name means may change while it is opened. */
const MOST_LOOKS = 10;

/** `look` throws BLOB_NOT_FOUND where the name is free; `open` where the version is gone: then the name means another one now. */
export async function openMeant<Version>(
  look: () => Promise<Version>,
  open: (version: Version) => Promise<ByteSource>,
): Promise<ByteSource> {
  for (let attempt = 1; ; attempt += 1) {
    const version = await look();
    try {
      return await open(version);
    } catch (error) {
      if (!isChainkeepError(error, 'BLOB_NOT_FOUND') || attempt === MOST_LOOKS) throw error;
    }
  }
}
