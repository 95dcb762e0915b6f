// Listings of a container: blobs, uncommitted uploads, and every version of every blob. Azure answers in the order of the names.
// It must not decide what a version means.

import type { BlobItem, ContainerListBlobsOptions } from '@azure/storage-blob';
import { ChainkeepError } from '../../plumbing/errors.ts';
import type { AzureContainer } from './azure-container.ts';

export interface ListedPage {
  readonly items: readonly BlobItem[];
  /** Milliseconds since 1970 by the service's clock, when it answered. STORE_FAILED for an answer without a date: no lock can be judged by it. */
  now(): number;
}

export interface ListOptions extends Omit<ContainerListBlobsOptions, 'prefix' | 'abortSignal'> {
  readonly pageSize?: number;
}

/** Metadata of a blob that says which writer made it: a commit whose answer was lost is known by it. */
export const WRITER = 'chainkeepwriter';

/** Azure's own limit of one answer. */
const PAGE = 5000;

/** Page by page, each tried again by itself: a fault in the middle does not begin the listing anew. */
export async function* listPages(container: AzureContainer, prefix: string, options: ListOptions = {}): AsyncGenerator<ListedPage> {
  const { pageSize = PAGE, ...include } = options;
  let continuationToken: string | undefined;
  do {
    const token = continuationToken;
    const page = await container.request({ action: 'list', name: prefix }, async ({ abortSignal }) => {
      const listing = container.client.listBlobsFlat({ ...include, prefix: container.keyOf(prefix), abortSignal });
      const { value } = await listing.byPage({ maxPageSize: pageSize, ...(token !== undefined && { continuationToken: token }) }).next();
      return value;
    });
    continuationToken = page?.continuationToken || undefined;
    yield { items: page?.segment.blobItems ?? [], now: () => timeOf(page?.date, container.place) };
  } while (continuationToken !== undefined);
}

function timeOf(date: Date | undefined, place: string): number {
  const time = date?.getTime() ?? Number.NaN;
  if (!Number.isNaN(time)) return time;
  throw new ChainkeepError('STORE_FAILED', `${place} answers without the time: whether a lock is over cannot be told`, {
    advice: 'Azure says it in the header Date: look at what lies between here and there',
    context: { place },
  });
}
