// Opens the database that its argument names, prints the installation's id and ends. With KILL_AT_STATEMENT=N it kills itself before
// the Nth statement of the migration.

import Sqlite from 'better-sqlite3';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { migrateCatalog } from '../../src/catalog/migrations/migrate-catalog.ts';
import { openCatalog } from '../../src/catalog/open-catalog.ts';
import { SqliteCatalog } from '../../src/catalog/sqlite-catalog.ts';
import { installationId } from '../../src/control/installation.ts';
import { systemClock } from '../../src/plumbing/clock.ts';

const path = process.argv[2] ?? '';
const killAt = Number(process.env.KILL_AT_STATEMENT);
if (killAt > 0) await migrateAndDie(new SqliteCatalog(new Sqlite(path), systemClock), killAt);
const catalog = await openCatalog({ url: `sqlite:${path}`, clock: systemClock });
process.stdout.write(await installationId(catalog));
await catalog.close();

async function migrateAndDie(catalog: Catalog, count: number): Promise<void> {
  let statements = 0;
  const mortal = (inner: Catalog): Catalog => ({
    dialect: inner.dialect,
    clock: inner.clock,
    all: (statement) => inner.all(statement),
    run: (statement) => {
      statements += 1;
      if (statements === count) process.kill(process.pid, 'SIGKILL');
      return inner.run(statement);
    },
    transaction: (work) => inner.transaction((unit) => work(mortal(unit))),
    close: () => inner.close(),
  });
  await migrateCatalog(mortal(catalog));
}
