// The id of an installation: made once, kept for ever.

import { expect, it } from 'vitest';
import { openCatalog } from '../../src/catalog/open-catalog.ts';
import { installationId } from '../../src/control/installation.ts';
import { isId, systemClock } from '../../src/plumbing/clock.ts';
import { openScratch } from '../catalog/scratch-catalog.ts';

it('is an id, the same after the database was closed, and an error when it is damaged', async () => {
  const { catalog, place, raw } = await openScratch();
  const id = await installationId(catalog);
  expect(isId(id)).toBe(true);
  const again = await openCatalog({ ...place, clock: systemClock });
  expect(await installationId(again)).toBe(id);
  await again.close();
  await raw(`update settings set value = '{}' where name = 'installation'`);
  await expect(installationId(catalog)).rejects.toMatchObject({ code: 'CATALOG_FAILED' });
});
