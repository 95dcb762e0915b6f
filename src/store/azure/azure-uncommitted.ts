// Blocks that were staged and never committed: Azure forgets them after a week. Seen as a blob of no bytes, and removed sooner where nobody writes any more.
// It must never remove a blob that was committed, whoever commits at this moment.

import { isBlobKey, isTemporaryKey } from '../blob-name.ts';
import type { Leftover } from '../blob-store.ts';
import type { AzureContainer } from './azure-container.ts';
import { azureCodeOf } from './azure-errors.ts';
import { listPages, WRITER } from './azure-list.ts';

/** The shortest that there is; it ends with the blob. */
const LEASE_SECONDS = 15;

interface StagedBlocks {
  readonly ids: readonly string[];
  readonly bytes: number;
}

/** The blocks of a name that has nothing else; undefined where a blob was committed, or nothing is there. */
export async function stagedBlocks(container: AzureContainer, name: string): Promise<StagedBlocks | undefined> {
  const blob = container.client.getBlockBlobClient(container.keyOf(name));
  const list = await unlessGoneOrHeld(
    container.request({ action: 'read', name }, ({ abortSignal }) => blob.getBlockList('all', { abortSignal })),
  );
  const blocks = list?.uncommittedBlocks ?? [];
  if (!list || blocks.length === 0 || (list.committedBlocks ?? []).length > 0 || (list.blobContentLength ?? 0) > 0) return undefined;
  return { ids: blocks.map((block) => block.name), bytes: blocks.reduce((sum, block) => sum + block.size, 0) };
}

/** Answers whether it was removed. Under a lease: who wants to commit in between is refused, and who has committed before is seen. */
export async function removeStaged(container: AzureContainer, name: string): Promise<boolean> {
  const blob = container.client.getBlobClient(container.keyOf(name));
  const lease = blob.getBlobLeaseClient();
  const leased = await unlessGoneOrHeld(
    container.request({ action: 'write', name }, ({ abortSignal }) => lease.acquireLease(LEASE_SECONDS, { abortSignal })),
  );
  if (!leased) return false;
  const { leaseId } = lease;
  const committed = await unlessGoneOrHeld(
    container.request({ action: 'read', name }, ({ abortSignal }) => blob.getProperties({ abortSignal, conditions: { leaseId } })),
  );
  if (committed) {
    await container.request({ action: 'write', name }, ({ abortSignal }) => lease.releaseLease({ abortSignal }));
    return false;
  }
  await unlessGoneOrHeld(
    container.request({ action: 'delete', name }, ({ abortSignal }) => blob.delete({ abortSignal, conditions: { leaseId } })),
  );
  return true;
}

export async function* listLeftovers(container: AzureContainer, prefix: string): AsyncGenerator<Leftover> {
  for await (const { items } of listPages(container, prefix, { includeUncommitedBlobs: true, includeMetadata: true })) {
    for (const item of items) {
      const name = container.nameOf(item.name);
      if (!isBlobKey(name) && !isTemporaryKey(name)) continue;
      const modifiedAt = item.properties.lastModified.getTime();
      const size = item.properties.contentLength ?? 0;
      // What carries the mark of a writer was committed. Without bytes that is every lock: they are not asked one by one.
      const staged = size === 0 && item.metadata?.[WRITER] === undefined ? await stagedBlocks(container, name) : undefined;
      if (staged) yield { name, size: staged.bytes, modifiedAt };
      else if (isTemporaryKey(name)) yield { name, size, modifiedAt };
    }
  }
}

/** Undefined where the blob is not there, or somebody else holds it. */
async function unlessGoneOrHeld<Answer>(request: Promise<Answer>): Promise<Answer | undefined> {
  try {
    return await request;
  } catch (error) {
    if (['BlobNotFound', 'LeaseAlreadyPresent', 'LeaseIdMissing'].includes(azureCodeOf(error) ?? '')) return undefined;
    throw error;
  }
}
