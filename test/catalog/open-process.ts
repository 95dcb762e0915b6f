// Opens the database at the URL in its argument (password: PASSWORD), prints the installation's id and ends. With KILL_AT_STATEMENT=N it kills itself before
// the Nth statement of the migration.

import Sqlite from 'better-sqlite3';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { migrateCatalog } from '../../src/catalog/migrations/migrate-catalog.ts';
import { openCatalog } from '../../src/catalog/open-catalog.ts';
import { openMariadb } from '../../src/catalog/open-mariadb.ts';
import { SqliteCatalog } from '../../src/catalog/sqlite-catalog.ts';
import { installationId } from '../../src/control/installation.ts';
import { systemClock } from '../../src/plumbing/clock.ts';

const place = { url: process.argv[2] ?? '', password: process.env.PASSWORD, clock: systemClock };
const killAt = Number(process.env.KILL_AT_STATEMENT);
if (killAt > 0) await migrateAndDie(unmigrated(), killAt);
const catalog = await openCatalog(place);
process.stdout.write(await installationId(catalog));
await catalog.close();

function unmigrated(): Catalog {
  if (place.url.startsWith('mariadb:')) return openMariadb({ ...place, busyTimeout: 10_000 }).catalog;
  return new SqliteCatalog(new Sqlite(place.url.slice('sqlite:'.length)), systemClock);
}

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
