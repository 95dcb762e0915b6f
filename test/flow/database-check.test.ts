// The check of the database through the launcher, on both databases.

import { globSync, rmSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { DatabaseCheck } from '../../src/app-interface.ts';
import { ON_MARIADB } from '../catalog/scratch-catalog.ts';
import { openHome, problems } from './database-parts.ts';

describe('database check', () => {
  it('says that all is well, and how much that was', async () => {
    const { user } = await openHome(2);
    const check = await user.json<DatabaseCheck>('database', 'check');
    expect(check).toMatchObject({ success: true, found: 0, problems: [], backups: 2 });
    expect(check.rows).toBeGreaterThan(10);
    if (!ON_MARIADB) expect(check.warnings).toEqual([]);
    expect((await user.run('database', 'check')).stdout).toContain('the database is sound');
    expect((await user.jobs())[0]).toMatchObject({ job_type: 'database', status: 'completed' });
  });

  it('names backups that are on one side only or differ, and what rescan would change', async () => {
    const { user, ids, raw } = await openHome(3);
    const [first = '', second = '', third = ''] = ids;
    await raw(`update backup_jobs set size_bytes = size_bytes + 1 where id = '${first}'`);
    await raw(`update backup_chains set latest_backup_id = '${second}'`);
    await raw(`delete from backup_jobs where id = '${third}'`);
    for (const file of globSync(`**/${second}.json`, { cwd: user.folder })) rmSync(user.path(file));
    const found = (await problems(user)).map(({ code, key }) => [code, key]).toSorted();
    expect(found).toEqual([
      ['BACKUP_DIFFERS', first],
      ['BACKUP_MISSING', second],
      ['BACKUP_UNLISTED', third],
      ['CHAIN_DIFFERS', first],
      ['CHAIN_DIFFERS', first],
    ]);
  });

  it('names values that cannot be, and repositories that cannot be asked', async () => {
    const { user, raw } = await openHome();
    await raw(`update job_tracking set metadata = '[1]'`);
    rmSync(user.path('home/repositories/default/chainkeep-repository.json'));
    const found = await problems(user);
    expect(found.map(({ code }) => code).toSorted()).toEqual(['REPOSITORY_OFFLINE', 'ROW_INVALID']);
    expect(found.find(({ code }) => code === 'ROW_INVALID')).toMatchObject({ table: 'job_tracking', key: expect.any(String) });
  });

  it.runIf(ON_MARIADB)('names references that lead nowhere, as a copy that was put back may have them', async () => {
    const { user, raw } = await openHome();
    await raw("set statement foreign_key_checks = 0 for update job_steps set job_id = 'nobody'");
    const found = await problems(user);
    expect(new Set(found.map(({ code, table }) => `${code} ${table}`))).toEqual(new Set(['REFERENCE_BROKEN job_steps']));
    expect(found[0]).toMatchObject({ key: expect.any(String), message: expect.stringContaining('job_tracking') });
  });
});
