// The identity of this installation: what the marker of a repository names as its owner.
// It must not change once made: another id would lock the installation out of its own repositories.

import type { Catalog } from '../catalog/catalog.ts';
import { findOrMakeSetting } from '../catalog/settings.ts';
import { newId } from '../plumbing/clock.ts';
import { ChainkeepError } from '../plumbing/errors.ts';

/** Made at the first call, the same for every process that uses this catalog. */
export async function installationId(catalog: Catalog): Promise<string> {
  const { id } = await findOrMakeSetting(catalog, 'installation', () => ({ id: newId(catalog.clock) }));
  if (typeof id === 'string') return id;
  throw new ChainkeepError('CATALOG_FAILED', 'the id of this installation in the database is damaged', {
    advice: 'restore the database from a copy, or take the repositories over with: chainkeep repo add --take-over',
  });
}
