// Which settings of a database server are warned of.

import { expect, it } from 'vitest';
import { checkServerSettings, judgeServerSettings } from '../../src/catalog/server-settings.ts';
import { openScratch } from './scratch-catalog.ts';

const GOOD = {
  version: '10.11.8-MariaDB-0+deb12u1',
  innodb_flush_log_at_trx_commit: '1',
  log_bin: 'OFF',
  sync_binlog: '0',
  innodb_doublewrite: 'ON',
  innodb_flush_method: 'O_DIRECT',
};

const warned = (changes: Readonly<Record<string, string>>): readonly string[] =>
  judgeServerSettings(new Map(Object.entries({ ...GOOD, ...changes }))).map(({ setting }) => setting);

it.each([
  [{}, []],
  [{ innodb_flush_log_at_trx_commit: '3' }, []],
  [{ innodb_flush_log_at_trx_commit: '2' }, ['innodb_flush_log_at_trx_commit']],
  [{ innodb_flush_log_at_trx_commit: '0' }, ['innodb_flush_log_at_trx_commit']],
  [{ log_bin: 'ON' }, ['sync_binlog']],
  [{ log_bin: 'ON', sync_binlog: '1000' }, ['sync_binlog']],
  [{ log_bin: 'ON', sync_binlog: '1' }, []],
  [{ log_bin: 'ON', innodb_flush_log_at_trx_commit: '3' }, []],
  [{ innodb_doublewrite: 'OFF' }, ['innodb_doublewrite']],
  [{ innodb_doublewrite: 'fast' }, []],
  [{ innodb_flush_method: 'nosync' }, ['innodb_flush_method']],
  [{ version: '10.6.0-MariaDB' }, []],
  [{ version: '11.8.3-MariaDB-log' }, []],
  [{ version: '12.1.2-MariaDB' }, []],
  [{ version: '10.5.29-MariaDB' }, ['version']],
  [{ version: '5.5.68-MariaDB' }, ['version']],
  [{ version: '8.4.3' }, ['version']],
] as const)('%j', (changes, expected) => {
  expect(warned(changes)).toEqual(expected);
});

it('the server that is asked names its settings as they are read here', async () => {
  const { catalog } = await openScratch();
  const warnings = await checkServerSettings(catalog);
  // Of a server that was given from outside nothing is known but that it answers.
  if (!process.env.CHAINKEEP_TEST_MARIADB_URL) expect(warnings).toEqual([]);
});
