// What is of the embedded database alone: damage of its file, and copies of it.

import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import Sqlite from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import { rawSql } from '../catalog/scratch-catalog.ts';
import { MIB, openHome, problems } from './database-parts.ts';
import { heldDisk } from './held-disk.ts';
import { noise } from './scratch-home.ts';

describe('database check of the embedded database', () => {
  it('names references that lead nowhere', async () => {
    const { user, database } = await openHome();
    const file = new Sqlite(database);
    file.pragma('foreign_keys = OFF');
    file.exec("update job_steps set job_id = 'nobody'");
    file.close();
    expect((await problems(user)).map(({ code, table }) => [code, table])).toContainEqual(['REFERENCE_BROKEN', 'job_steps']);
  });

  it('names a file that is damaged', async () => {
    const { user, database } = await openHome();
    const bytes = readFileSync(database);
    bytes.fill(0x5a, bytes.length - 3 * 4096, bytes.length - 4096);
    writeFileSync(database, bytes);
    const run = await user.run('database', 'check', '--json');
    expect(run.code).toBe(1);
    expect(JSON.parse(run.stdout).error_code).toMatch(/FILE_DAMAGED|CATALOG_FAILED/);
  });
});

describe('database backup', () => {
  it('is a whole private copy, also while a backup runs; it never replaces a file', async () => {
    const { user, database } = await openHome();
    const { address, letGo } = await heldDisk(user, noise(4 * MIB, 3));
    const running = user.start('backup', address, '--vm', 'vm', '--json');
    await user.appears('**/*.qcow2.tmp-*');
    const copy = user.path('copy.db');
    const answer = await user.json<{ size_bytes: number }>('database', 'backup', 'copy.db');
    expect(answer).toMatchObject({ success: true, file: copy, size_bytes: statSync(copy).size });
    expect(statSync(copy).mode & 0o777).toBe(0o600);
    expect(rawSql(copy, 'pragma integrity_check')).toEqual([{ integrity_check: 'ok' }]);
    // In the copy, the job that made it has ended, and the backup still runs.
    const jobs = rawSql(copy, 'select job_type, status from job_tracking order by created_at desc');
    expect(jobs.slice(0, 2)).toEqual([
      { job_type: 'database', status: 'completed' },
      { job_type: 'backup', status: 'running' },
    ]);
    const before = readFileSync(copy);
    await user.refused('TARGET_EXISTS', 'database', 'backup', 'copy.db');
    expect(readFileSync(copy).equals(before)).toBe(true);
    await user.refused('TARGET_INVALID', 'database', 'backup', 'nowhere/copy.db');
    letGo();
    expect((await running.ended).code).toBe(0);
    expect(readdirSync(user.folder).filter((name) => name.startsWith('copy.db'))).toEqual(['copy.db']);
    expect(existsSync(database)).toBe(true);
  });
});
