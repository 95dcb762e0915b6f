// Is the database server set up so that what it has committed survives a power loss, and new enough? It is asked, not changed.
// It must not refuse anything: whoever runs the server may have reasons, but has to be told.

import type { Catalog } from './catalog.ts';
import { literal } from './sql.ts';

/** A setting of the server with which less is kept than the program counts on. */
export interface ServerWarning {
  /** As the server calls it. */
  readonly setting: string;
  readonly value: string;
  /** One line: what it is, what can happen, what to do. */
  readonly message: string;
}

/** The oldest series of MariaDB that is promised: the oldest one that its makers still maintained when this was written. */
const OLDEST = [10, 6] as const;

const NAMES = ['version', 'innodb_flush_log_at_trx_commit', 'log_bin', 'sync_binlog', 'innodb_doublewrite', 'innodb_flush_method'] as const;
export type ServerSettings = ReadonlyMap<string, string>;

/** Nothing for the embedded database, whose settings are the program's own. */
export async function checkServerSettings(catalog: Catalog): Promise<readonly ServerWarning[]> {
  if (catalog.dialect !== 'mariadb') return [];
  const names = NAMES.map((name) => `'${name}'`).join(', ');
  const rows = await catalog.all(literal(`show global variables where variable_name in (${names})`));
  return judgeServerSettings(new Map(rows.map(({ Variable_name: name, Value: value }) => [String(name), String(value)])));
}

/** Settings that a server does not have are not judged. */
export function judgeServerSettings(settings: ServerSettings): readonly ServerWarning[] {
  return [judgeVersion(settings), judgeCommits(settings), judgeBinaryLog(settings), judgePages(settings), judgeSyncs(settings)].filter(
    (warning) => warning !== undefined,
  );
}

function judgeVersion(settings: ServerSettings): ServerWarning | undefined {
  const version = settings.get('version') ?? '';
  const [, major = '', minor = ''] = /^(\d+)\.(\d+)/.exec(version) ?? [];
  const series = Number(major) - OLDEST[0] || Number(minor) - OLDEST[1];
  if (/mariadb/i.test(version) && !(series < 0)) return undefined;
  const message = `the database server is ${version || 'of an unknown version'}: only MariaDB ${OLDEST.join('.')} and newer are tried; update it`;
  return { setting: 'version', value: version, message };
}

/** 1 and 3 wait for the disk at each commit; 2 and 0 do it once a second. */
function judgeCommits(settings: ServerSettings): ServerWarning | undefined {
  const name = 'innodb_flush_log_at_trx_commit';
  const value = settings.get(name);
  if (value === undefined || value === '1' || value === '3') return undefined;
  return warning(name, value, 'the last second of what was committed is lost at a power loss; set it to 1');
}

/** With a binary log a commit counts on finding itself there after a crash, so that has to be on the disk as well. 3 does not count on it. */
function judgeBinaryLog(settings: ServerSettings): ServerWarning | undefined {
  const value = settings.get('sync_binlog');
  const counts = settings.get('log_bin') === 'ON' && settings.get('innodb_flush_log_at_trx_commit') === '1';
  if (value === undefined || value === '1' || !counts) return undefined;
  return warning('sync_binlog', value, 'with the binary log on, what was committed last can be lost at a power loss; set it to 1');
}

function judgePages(settings: ServerSettings): ServerWarning | undefined {
  const name = 'innodb_doublewrite';
  const value = settings.get(name);
  if (value === undefined || !/^(off|0)$/i.test(value)) return undefined;
  return warning(
    name,
    value,
    'a page that a power loss tears is lost; turn it on, unless the file system of the server writes whole pages (ZFS)',
  );
}

function judgeSyncs(settings: ServerSettings): ServerWarning | undefined {
  const name = 'innodb_flush_method';
  const value = settings.get(name);
  if (value === undefined || !/nosync/i.test(value)) return undefined;
  return warning(name, value, 'the server never waits for its disk, and a power loss can ruin the whole database; leave it at its default');
}

function warning(setting: string, value: string, what: string): ServerWarning {
  return { setting, value, message: `the database server has ${setting} = ${value}: ${what}` };
}
