// Adds one to a counter in the database (URL: first argument; password: PASSWORD) as many times as the second argument says, each time in a transaction.

import { openCatalog } from '../../src/catalog/open-catalog.ts';
import { findSetting, SETTINGS } from '../../src/catalog/settings.ts';
import { sql } from '../../src/catalog/sql.ts';
import { update } from '../../src/catalog/table.ts';
import { systemClock } from '../../src/plumbing/clock.ts';

const catalog = await openCatalog({ url: process.argv[2] ?? '', password: process.env.PASSWORD, clock: systemClock });
for (let round = 0; round < Number(process.argv[3]); round += 1) {
  await catalog.transaction(async (unit) => {
    const value = await findSetting(unit, 'counter');
    await update(unit, SETTINGS, { value: { n: Number(value?.n) + 1 } }, sql`name = 'counter'`);
  });
}
await catalog.close();
