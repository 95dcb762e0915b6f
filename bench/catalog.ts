// `npm run bench:catalog [-- --rows 1000000 --database sqlite,mariadb]`: the catalog with a million backups, on both databases.
// The goals: a page of 50 of the listing anywhere, a page of one VM and the newest chain of a disk under 20 ms, a completed backup entered
// under 5 ms, and `repo list` as a whole process under 150 ms on the embedded database. MariaDB is a private server that waits for its disk at each commit.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { currentChain } from '../src/catalog/backup-chains.ts';
import { listBackups } from '../src/catalog/backup-listing.ts';
import { insertRepository } from '../src/catalog/backup-repositories.ts';
import type { Catalog, SqlValue } from '../src/catalog/catalog.ts';
import { completeBackup } from '../src/catalog/complete-backup.ts';
import { openCatalog } from '../src/catalog/open-catalog.ts';
import { insertVmContext } from '../src/catalog/vm-contexts.ts';
import { isoTime, newId, systemClock } from '../src/plumbing/clock.ts';
import { startMariadb } from '../test/servers/mariadb.ts';

const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: '1000000' },
    database: { type: 'string', default: 'sqlite,mariadb' },
    folder: { type: 'string', default: '/var/tmp' },
  },
});
const ROWS = Number(values.rows);
const VMS = 10_000;
/** Backups of one chain; the disk has a new one after them. */
const CHAIN = 30;
const PAGE = 50;
const TIMES = 25;
const START = Date.parse('2024-01-01T00:00:00.000Z');
const BATCH = 2000;

const folder = mkdtempSync(join(values.folder, 'chainkeep-catalog-'));
try {
  for (const database of values.database.split(',')) {
    if (database === 'sqlite') await measure('sqlite', { url: `sqlite:${join(folder, 'catalog.sqlite')}` });
    else await onMariadb();
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}

async function onMariadb(): Promise<void> {
  const server = await startMariadb({ folder, settings: ['--innodb-buffer-pool-size=1G'] });
  try {
    const { url, password } = server.address;
    execFileSync('mariadb', ['--no-defaults', '-uroot', `--socket=${join(folder, 's.sock')}`, '-e', 'create database bench']);
    await measure('mariadb', { url: `${url}bench`, password });
  } finally {
    await server.stop();
  }
}

async function measure(name: string, place: { readonly url: string; readonly password?: string }): Promise<void> {
  const catalog = await openCatalog({ ...place, clock: systemClock });
  try {
    const filled = performance.now();
    await fill(catalog);
    console.log(`${name}: ${ROWS} backups of ${VMS} VMs, entered in ${((performance.now() - filled) / 1000).toFixed(0)} s`);
    const far = await backupAt(catalog, Math.floor(ROWS * 0.9));
    const vmContextId = vmId(Math.floor(VMS / 2));
    await time('first page of the listing', 20, () => listBackups(catalog, {}, { limit: PAGE }));
    await time(`the page at row ${Math.floor(ROWS * 0.9)}`, 20, () => listBackups(catalog, {}, { limit: PAGE, after: far }));
    await time('a page of one VM', 20, () => listBackups(catalog, { vmContextId }, { limit: PAGE }));
    await time('the newest chain of a disk', 20, () => currentChain(catalog, { vmContextId, diskId: 0, repositoryId: 'r' }));
    await time('a completed backup entered', 5, (turn) => completeOne(catalog, turn));
  } finally {
    await catalog.close();
  }
  const empty = { CHAINKEEP_HOME: join(folder, 'empty') };
  const full = { CHAINKEEP_HOME: folder, CHAINKEEP_DATABASE_URL: place.url, CHAINKEEP_DATABASE_PASSWORD: place.password };
  // The first two say what of the third is the machine's and the program's start, and what the million.
  timeProcess('--version, the whole process', undefined, ['--version'], empty);
  timeProcess('repo list of an empty catalog, the whole process', undefined, ['repo', 'list'], empty);
  timeProcess('repo list, the whole process', name === 'sqlite' ? 150 : undefined, ['repo', 'list'], full);
}

function timeProcess(what: string, goal: number | undefined, args: readonly string[], env: NodeJS.ProcessEnv): void {
  const script = join(import.meta.dirname, 'time-process.ts');
  const launcher = join(import.meta.dirname, '..', 'chainkeep');
  const printed = execFileSync(process.execPath, [script, String(TIMES), launcher, ...args], { env: { ...process.env, ...env } });
  print(what, goal, JSON.parse(printed.toString()) as number[]);
}

/** The median, and the slowest of all turns; the first one warms the caches up and is not counted. */
async function time(what: string, goal: number | undefined, action: (turn: number) => Promise<unknown>): Promise<void> {
  const taken: number[] = [];
  for (let turn = 0; turn <= TIMES; turn += 1) {
    const began = performance.now();
    await action(turn);
    if (turn > 0) taken.push(performance.now() - began);
  }
  print(what, goal, taken);
}

function print(what: string, goal: number | undefined, taken: number[]): void {
  taken.sort((a, b) => a - b);
  const [median = 0, slowest = 0] = [taken[Math.floor(taken.length / 2)], taken.at(-1)];
  console.log(`  ${what}: ${median.toFixed(2)} ms (slowest ${slowest.toFixed(2)}${goal === undefined ? '' : `; goal ${goal}`})`);
}

function vmId(index: number): string {
  return `vm-${String(index).padStart(6, '0')}`;
}

/** One an hour, round the VMs; ids in the order of time, as ours are. */
function rowAt(index: number): Readonly<Record<string, SqlValue>> {
  const vm = index % VMS;
  const round = Math.floor(index / VMS);
  const inChain = round % CHAIN;
  const at = isoTime(START + index * 1000);
  return {
    id: idAt(index),
    vm_context_id: vmId(vm),
    vm_name: `machine ${vm}`,
    disk_id: 0,
    repository_id: 'r',
    backup_type: inChain === 0 ? 'full' : 'incremental',
    status: 'completed',
    repository_path: `vms/${vmId(vm)}/disk-0/${idAt(index)}.qcow2`,
    parent_backup_id: inChain === 0 ? null : idAt(index - VMS),
    total_bytes: 100 * 2 ** 30,
    size_bytes: 2 ** 30 + index,
    chain_id: idAt(index - inChain * VMS),
    content_root: 'c'.repeat(64),
    created_at: at,
    started_at: at,
    completed_at: at,
  };
}

function idAt(index: number): string {
  return `b${String(index).padStart(10, '0')}`;
}

async function fill(catalog: Catalog): Promise<void> {
  const created_at = isoTime(START);
  await insertRepository(catalog, { id: 'r', name: 'r', repository_type: 'local', config: { path: '/r' }, created_at });
  await catalog.transaction(async (unit) => {
    for (let index = 0; index < VMS; index += 1)
      await insertVmContext(unit, { context_id: vmId(index), vm_name: `machine ${index}`, created_at });
  });
  for (let from = 0; from < ROWS; from += BATCH) {
    const rows = Array.from({ length: Math.min(BATCH, ROWS - from) }, (_, index) => rowAt(from + index));
    await insertMany(catalog, 'backup_jobs', rows);
  }
  const chains = Array.from({ length: ROWS }, (_, index) => index).filter((index) => Math.floor(index / VMS) % CHAIN === 0);
  for (let from = 0; from < chains.length; from += BATCH)
    await insertMany(catalog, 'backup_chains', chains.slice(from, from + BATCH).map(chainAt));
}

function chainAt(full: number): Readonly<Record<string, SqlValue>> {
  const last = Math.min(CHAIN - 1, Math.floor((ROWS - 1 - full) / VMS));
  return {
    id: idAt(full),
    vm_context_id: vmId(full % VMS),
    disk_id: 0,
    repository_id: 'r',
    full_backup_id: idAt(full),
    latest_backup_id: idAt(full + last * VMS),
    total_backups: last + 1,
    total_size_bytes: 2 ** 30,
  };
}

async function insertMany(catalog: Catalog, table: string, rows: readonly Readonly<Record<string, SqlValue>>[]): Promise<void> {
  const names = Object.keys(rows[0] ?? {});
  // SQLite takes at most 32 766 parameters in one statement.
  const atOnce = Math.floor(30_000 / names.length);
  const time = (name: string, value: SqlValue): SqlValue =>
    catalog.dialect === 'mariadb' && name.endsWith('_at') && typeof value === 'string' ? value.replace('T', ' ').replace('Z', '') : value;
  await catalog.transaction(async (unit) => {
    for (let from = 0; from < rows.length; from += atOnce) {
      const part = rows.slice(from, from + atOnce);
      const marks = part.map(() => `(${names.map(() => '?').join(', ')})`).join(', ');
      const parameters = part.flatMap((row) => names.map((name) => time(name, row[name] ?? null)));
      await unit.run({ sql: `insert into ${table} (${names.join(', ')}) values ${marks}`, parameters });
    }
  });
}

async function backupAt(catalog: Catalog, row: number): Promise<{ readonly id: string; readonly created_at: string }> {
  const index = ROWS - 1 - row;
  const [found] = await listBackups(
    catalog,
    {},
    { limit: 1, after: { id: idAt(index + 1), created_at: isoTime(START + (index + 1) * 1000) } },
  );
  if (found?.backup_id !== idAt(index)) throw new Error(`row ${row} is ${found?.backup_id}, not ${idAt(index)}`);
  return { id: found.backup_id, created_at: found.created_at };
}

/** The next incremental of a chain that is as long as chains get here, as a job does it. */
async function completeOne(catalog: Catalog, turn: number): Promise<void> {
  const vm = turn;
  const chain = await currentChain(catalog, { vmContextId: vmId(vm), diskId: 0, repositoryId: 'r' });
  if (!chain) throw new Error(`VM ${vm} has no chain`);
  const id = newId(systemClock);
  const at = isoTime(systemClock.now());
  await completeBackup(catalog, {
    id,
    vm_context_id: vmId(vm),
    vm_name: `machine ${vm}`,
    disk_id: 0,
    repository_id: 'r',
    backup_type: 'incremental',
    repository_path: `vms/${vmId(vm)}/disk-0/${id}.qcow2`,
    parent_backup_id: chain.latest_backup_id,
    chain_id: chain.id,
    size_bytes: 1000,
    total_bytes: 100 * 2 ** 30,
    created_at: at,
    completed_at: at,
  });
}
