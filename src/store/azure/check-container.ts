// What a container must be before backups go there: asked when it is opened, so that nobody learns it from a half-written backup.
// It must not refuse what it was not allowed to ask: a SAS token of a container may not see all properties.

import { ChainkeepError } from '../../plumbing/errors.ts';
import type { AzureContainer } from './azure-container.ts';
import { azureCodeOf } from './azure-errors.ts';

const NOT_ALLOWED: readonly string[] = ['AuthorizationPermissionMismatch', 'AuthorizationResourceTypeMismatch', 'AuthorizationFailure'];

/** CONFIG_INVALID for an account whose folders are more than parts of names: they would be listed as blobs, and stay when they are empty. */
export async function checkNamespace(container: AzureContainer): Promise<void> {
  const account = await unlessForbidden(
    container.request({ action: 'read', name: '' }, ({ abortSignal }) => container.client.getAccountInfo({ abortSignal })),
  );
  if (!account?.isHierarchicalNamespaceEnabled) return;
  throw new ChainkeepError('CONFIG_INVALID', `the account of ${container.place} has a hierarchical namespace`, {
    advice: 'use an account without it (no Data Lake Storage Gen2)',
    context: { place: container.place },
  });
}

/** CONFIG_INVALID where blobs cannot be locked. Who may not ask learns it at the first lock. */
export async function checkImmutableSupport(container: AzureContainer): Promise<void> {
  const properties = await unlessForbidden(
    container.request({ action: 'read', name: '' }, ({ abortSignal }) => container.client.getProperties({ abortSignal })),
  );
  if (!properties || properties.isImmutableStorageWithVersioningEnabled) return;
  throw new ChainkeepError('CONFIG_INVALID', `the container ${container.place} does not support immutability of single versions`, {
    advice: 'enable "version-level immutability" of the container, or set use_immutable_blobs=false',
    context: { place: container.place },
  });
}

async function unlessForbidden<Answer>(request: Promise<Answer>): Promise<Answer | undefined> {
  try {
    return await request;
  } catch (error) {
    if (NOT_ALLOWED.includes(azureCodeOf(error) ?? '')) return undefined;
    throw error;
  }
}
