// What a writer in a repository must ask before it commits: does it still hold the lease of its disk?
// It must not know where leases are kept; control/lease.ts makes guards over the catalog.

export interface Guard {
  /** Fires with LEASE_LOST as its reason once the lease is known to be lost: stop writing. */
  readonly signal: AbortSignal;
  /** Asks again, at this moment. Throws LEASE_LOST; call it right before each commit, for a stopped process does not see its signal fire. */
  assertHeld(): Promise<void>;
}
