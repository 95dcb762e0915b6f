// What every operation of a repository needs at hand.

import type { Blake3 } from '../plumbing/blake3.ts';
import type { Clock } from '../plumbing/clock.ts';
import type { Logger } from '../plumbing/logger.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { Immutability } from './immutability.ts';
import type { LockTime } from './lock-rules.ts';
import type { Marker } from './marker.ts';

export interface RepositoryContext {
  readonly store: BlobStore;
  readonly blake3: Blake3;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What the catalog and the marker ask for together; undefined where backups are not locked. */
  readonly immutability: Immutability | undefined;
  /** What locks are judged by, asked at this moment. */
  time(): Promise<LockTime>;
  /**
   * Reads the marker again: throws REPOSITORY_OFFLINE when it vanished (an unmounted disk), REPOSITORY_FOREIGN when another
   * installation took the repository over. Answers what it read.
   */
  assertOwned(): Promise<Marker>;
}
