// Writes docs/reference/database.md from a freshly migrated database; `--check` for CI.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { STEPS } from '../src/catalog/migrations/migrate-catalog.ts';
import { schemaWords } from '../src/catalog/migrations/portability.ts';
import { openCatalog } from '../src/catalog/open-catalog.ts';
import { SCHEMA_VERSION } from '../src/catalog/schema-version.ts';
import { systemClock } from '../src/plumbing/clock.ts';
import { writePage } from './written-page.ts';

/** In the order of the page. A table without a line here fails the script. */
const MEANINGS: Readonly<Record<string, string>> = {
  vm_replication_contexts: 'The protected VMs. A name may fit several; `context_id` is the identity.',
  backup_repositories: 'The places where backups rest. `config` holds no secret in clear.',
  backup_policies: 'Where the backups of a VM go, how often they are made and how long they are kept.',
  backup_copy_rules: 'Where the copies go that a policy asks for.',
  backup_jobs:
    'One row per backup of one disk; `id` is the id of the backup. An index of what the repositories hold: the sidecar beside each image is the truth.',
  backup_chains: 'A full backup and everything that descends from it. `latest_backup_id` and the totals count completed backups only.',
  backup_copies: 'A backup that also rests in another repository.',
  holds: 'Reasons why a backup may not be deleted before they are lifted.',
  job_tracking: 'The job log: every operation that changed something, who ran it and how it ended.',
  job_steps: 'The steps of a job, in the order in which they began.',
  log_events: 'The lines of a job.',
  job_heartbeats: 'When a running job was last heard of, and whether somebody wants it to stop.',
  leases: 'Who is writing to one disk of one VM in one repository; a lease that is not renewed ends at `expires_at`.',
  push_completions: 'That somebody has said that the disks pushed to a running job are complete. The row goes with its job.',
  readers: 'Who is reading a backup, so that it is not merged or deleted meanwhile.',
  space_reservations: 'Room in a repository that a running job counts on.',
  secrets:
    'What the stores of repositories need and nobody may read, encrypted: AES-256-GCM under the key `key_id`, which is not in the database.',
  users: 'Who may use the server. `password_hash` is null for those who come through another directory.',
  sessions: 'Who is logged in at the web pages; of the token only its hash is kept.',
  api_tokens: 'Tokens of programs, with a role of their own; of the token only its hash is kept.',
  audit_log: 'Who did what and when. Each line is hashed with the one before it.',
  storage_samples: 'How full a repository was: for growth and forecast.',
  settings: 'What this installation remembers of itself.',
};

interface Row {
  readonly [column: string]: string | number | null;
}

interface Column extends Row {
  readonly name: string;
  readonly type: string;
  readonly notnull: number;
  readonly dflt_value: string | null;
  readonly pk: number;
}

const folder = mkdtempSync(join(tmpdir(), 'chainkeep-reference-'));
const path = join(folder, 'catalog.sqlite');
await (await openCatalog({ url: `sqlite:${path}`, clock: systemClock })).close();
const database = new Sqlite(path);
try {
  writePage('docs/reference/database.md', page());
} finally {
  database.close();
  rmSync(folder, { recursive: true });
}

function page(): string {
  const tables = query<{ name: string }>("select name from sqlite_schema where type = 'table' and name not like 'sqlite_%'").map(
    (row) => row.name,
  );
  const unknown = tables.filter((name) => !(name in MEANINGS));
  if (unknown.length > 0) throw new Error(`no meaning is given for: ${unknown.join(', ')}`);
  return `<!-- Made by scripts/generate-database-reference.ts; do not edit. -->

# The database

Schema ${SCHEMA_VERSION}. The same tables on SQLite and on MariaDB. Times are UTC: ISO 8601 text on SQLite, \`datetime(6)\` on MariaDB. Sizes are bytes. On
MariaDB every table is utf8mb4 with the collation \`utf8mb4_nopad_bin\`: on both databases two names are the same only when all their characters are. Lengths
(in characters), enums, JSON and times are checked by the database, whoever writes to it. \`updated_at\` follows every update.

\`\`\`mermaid
erDiagram
${Object.keys(MEANINGS).flatMap(relations).join('\n')}
\`\`\`

${Object.keys(MEANINGS).map(section).join('\n')}`;
}

function section(table: string): string {
  const columns = query<Column>(`select * from pragma_table_info('${table}')`);
  const lines = columns.map((column) => {
    const words = [`\`${column.name}\``, `\`${mariadbType(table, column.name)}\``, `\`${column.type.toLowerCase()}\``];
    return `| ${[...words, column.notnull ? '' : 'yes', defaultOf(column), notes(table, column)].join(' | ')} |`;
  });
  return `## ${table}

${MEANINGS[table]}

| column | MariaDB | SQLite | null | default | |
| --- | --- | --- | --- | --- | --- |
${lines.join('\n')}

${indexes(table)}`;
}

function notes(table: string, column: Column): string {
  const reference = references(table).find((key) => key.from === column.name);
  const rule = (check: string): boolean => definition(table).includes(check);
  return [
    column.pk ? 'primary key' : '',
    reference ? `→ \`${reference.table}\`, on delete ${String(reference.on_delete).toLowerCase()}` : '',
    rule(`json_valid(${column.name})`) ? 'JSON' : '',
    rule(`(${column.name} >= 0)`) ? 'not negative' : '',
  ]
    .filter((note) => note !== '')
    .join(', ');
}

function indexes(table: string): string {
  const found = query<{ name: string; unique: number; origin: string }>(`select * from pragma_index_list('${table}') order by seq desc`);
  const constraints = [...definition(table).matchAll(/constraint "(\w+)" unique \(([^)]*)\)/g)].map(
    ([, name, columns]) => `- unique \`${name}\`: ${columns?.replaceAll('"', '')}`,
  );
  const others = found
    .filter((index) => index.origin === 'c')
    .map((index) => {
      const columns = query<{ name: string }>(`select name from pragma_index_info('${index.name}') order by seqno`);
      return `- index \`${index.name}\`: ${columns.map((column) => column.name).join(', ')}`;
    });
  const all = [...constraints, ...others];
  return all.length === 0 ? '' : `${all.join('\n')}\n`;
}

function relations(table: string): readonly string[] {
  const columns = query<Column>(`select * from pragma_table_info('${table}')`);
  return references(table).map((key) => {
    const optional = columns.find((column) => column.name === key.from)?.notnull ? '||' : '|o';
    return `  ${key.table} ${optional}--o{ ${table} : ${key.from}`;
  });
}

function references(table: string): readonly { table: string; from: string; on_delete: string }[] {
  return query(`select * from pragma_foreign_key_list('${table}') order by id desc`);
}

function defaultOf(column: Column): string {
  if (column.dflt_value === null) return '';
  return column.dflt_value.includes('strftime') ? 'now' : `\`${column.dflt_value.replaceAll("'", '')}\``;
}

function definition(table: string): string {
  return String(query<{ sql: string }>(`select sql from sqlite_schema where name = '${table}'`)[0]?.sql);
}

/** The same step, said for MariaDB. */
function mariadbType(table: string, column: string): string {
  const words = schemaWords('mariadb');
  const statement = STEPS.map((step) => step(words)?.compile().sql ?? '').find((text) =>
    text.startsWith(`create table if not exists \`${table}\` `),
  );
  const type = new RegExp(`\`${column}\` (\\w+(?:\\([^)]*\\))?)`).exec(statement ?? '')?.[1];
  if (type === undefined) throw new Error(`no column ${column} in the MariaDB table ${table}`);
  return type.replaceAll("'", '');
}

function query<T>(statement: string): readonly T[] {
  return database.prepare<[], T>(statement).all();
}
