// The id of an installation: made once, kept for ever.

import { expect, it } from 'vitest';
import { openCatalog } from '../../src/catalog/open-catalog.ts';
import { installationId } from '../../src/control/installation.ts';
import { isId, systemClock } from '../../src/plumbing/clock.ts';
import { openScratch, rawSql } from '../catalog/scratch-catalog.ts';

it('is an id, the same after the database was closed, and an error when it is damaged', async () => {
  const { catalog, path } = await openScratch();
  const id = await installationId(catalog);
  expect(isId(id)).toBe(true);
  const again = await openCatalog({ url: `sqlite:${path}`, clock: systemClock });
  expect(await installationId(again)).toBe(id);
  await again.close();
  rawSql(path, `update settings set value = '{}' where name = 'installation'`);
  await expect(installationId(catalog)).rejects.toMatchObject({ code: 'CATALOG_FAILED' });
});
