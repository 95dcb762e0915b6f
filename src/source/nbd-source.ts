// An NBD export as what is backed up: only what the server does not call zeros is read.

import { openNbdReader } from '../nbd/client/nbd-reader.ts';
import { BASE_ALLOCATION } from '../nbd/protocol/meta-context.ts';
import { hasFlag } from '../nbd/protocol/transmission-flags.ts';
import type { OpenedSource } from './open-source.ts';

/** Throws what `openNbdReader` throws. `signal` ends it for good, also reads that are under way. */
export async function openNbdSource(address: string, signal: AbortSignal | undefined): Promise<OpenedSource> {
  const reader = await openNbdReader(address, { ...(signal && { signal }) });
  const { name, facts, contexts } = reader;
  const notices: string[] = [];
  if (!hasFlag(facts.flags, 'READ_ONLY'))
    notices.push(`${name} can be written to: if somebody does meanwhile, the backup may hold a state between two moments`);
  if (!contexts.includes(BASE_ALLOCATION)) notices.push(`${name} does not tell where it reads as zeros: all of it is read`);
  // An export has one size as long as one is connected; the reader refuses one that comes back with another.
  return { reader, kind: 'nbd', notices, checkUnchanged: async () => undefined };
}
