// Works on the secrets of a database (URL: first argument; password: PASSWORD) with the keys of a home (second argument). The third says what:
// `rotate`, `rotate N` (and is killed at the Nth thing that it asks the database or the key file for), or `store` (a secret, again and again).

import type { Catalog } from '../../src/catalog/catalog.ts';
import { openCatalog } from '../../src/catalog/open-catalog.ts';
import { type KeyStore, openKeyStore } from '../../src/control/secret-keys.ts';
import { rotateKeys, storeSecrets } from '../../src/control/secrets.ts';
import { systemClock } from '../../src/plumbing/clock.ts';
import { Secret } from '../../src/plumbing/secret.ts';

const [url = '', home = '', what, detail] = process.argv.slice(2);
const catalog = await openCatalog({ url, password: process.env.PASSWORD, clock: systemClock });
const keys = openKeyStore({ home, installationId: 'test' });

let left = what === 'rotate' && detail !== undefined ? Number(detail) : Number.POSITIVE_INFINITY;
function passing(): void {
  left -= 1;
  if (left === 0) process.kill(process.pid, 'SIGKILL');
}

function killable(inner: Catalog): Catalog {
  return {
    dialect: inner.dialect,
    clock: inner.clock,
    all: (statement) => {
      passing();
      return inner.all(statement);
    },
    run: (statement, options) => {
      passing();
      return inner.run(statement, options);
    },
    transaction: async (work) => {
      const result = await inner.transaction(async (unit) => {
        const done = await work(killable(unit));
        passing(); // before the commit
        return done;
      });
      passing();
      return result;
    },
    close: () => inner.close(),
  };
}

const killableKeys: KeyStore = {
  ...keys,
  save: (ring) => {
    passing();
    keys.save(ring);
    passing();
  },
};

if (what === 'rotate') await rotateKeys(killable(catalog), killableKeys, { forgetUnreadable: false });
for (let round = 0; what === 'store' && round < Number(detail); round += 1) {
  await catalog.transaction((unit) => storeSecrets(unit, keys, 'repo-1', { password: new Secret(`value ${round}`) }));
}
await catalog.close();
