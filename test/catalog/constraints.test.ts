// The rules that the database itself enforces, whoever writes to it, and the checks of values on their way in and out.

import { describe, expect, it } from 'vitest';
import { findBackupJob, insertBackupJob, updateBackupJob } from '../../src/catalog/backup-jobs.ts';
import {
  deleteRepository,
  getRepository,
  insertRepository,
  listRepositories,
  updateRepository,
} from '../../src/catalog/backup-repositories.ts';
import { constraintOf } from '../../src/catalog/database-error.ts';
import { insertTrackedJob } from '../../src/catalog/job-tracking.ts';
import { insertLogEvent, listLogEvents } from '../../src/catalog/log-events.ts';
import { literal, sql } from '../../src/catalog/sql.ts';
import { findVmContext, insertVmContext, updateVmContext } from '../../src/catalog/vm-contexts.ts';
import { AT, addRepository, addVm, backupRow, ON_MARIADB, openScratch, rawTime } from './scratch-catalog.ts';

/** A repository, a VM and a policy that both use it, a full backup and its child. */
async function openFilled() {
  const scratch = await openScratch();
  const { catalog } = scratch;
  await addRepository(catalog);
  await addVm(catalog);
  await catalog.run(sql`insert into backup_policies (id, name, primary_repository_id) values ('p1', 'daily', 'repo-1')`);
  await updateVmContext(catalog, 'vm-1', { policy_id: 'p1' });
  await insertBackupJob(catalog, backupRow('b1', 0, { policy_id: 'p1' }));
  await insertBackupJob(catalog, backupRow('b2', 1, { backup_type: 'incremental', parent_backup_id: 'b1' }));
  return scratch;
}

describe('foreign keys', () => {
  it('RESTRICT: a VM, a repository and a parent stay while something needs them', async () => {
    const { catalog } = await openFilled();
    for (const statement of [
      "delete from vm_replication_contexts where context_id = 'vm-1'",
      "delete from backup_repositories where id = 'repo-1'",
      "delete from backup_jobs where id = 'b1'",
      "update backup_jobs set parent_backup_id = 'b9' where id = 'b2'",
    ]) {
      const error = await catalog.run(literal(statement)).catch((reason: unknown) => reason);
      expect(constraintOf(error), statement).toBe('foreign key');
    }
    await expect(deleteRepository(catalog, 'repo-1')).rejects.toMatchObject({ code: 'REPOSITORY_IN_USE', context: { backup_count: 2 } });
  });

  it('SET NULL: backups and VMs outlive their policy', async () => {
    const { catalog } = await openFilled();
    await catalog.run(sql`delete from backup_policies`);
    expect(await findBackupJob(catalog, 'b1')).toMatchObject({ policy_id: null });
    expect(await findVmContext(catalog, 'vm-1')).toMatchObject({ policy_id: null });
  });

  it('CASCADE: the steps and lines of a job go with it', async () => {
    const { catalog } = await openFilled();
    await insertTrackedJob(catalog, { id: 'j1', job_type: 'backup', operation: 'x', created_at: AT });
    await insertLogEvent(catalog, 'j1', { level: 'info', message: 'hello', stepId: null });
    expect(await listLogEvents(catalog, 'j1')).toHaveLength(1);
    await catalog.run(sql`delete from job_tracking`);
    expect(await listLogEvents(catalog, 'j1')).toHaveLength(0);
  });
});

type RowCase = readonly [string, string, Record<string, string | number | null>];

describe('rules of columns', () => {
  const REPOSITORY = { id: 'r', name: 'n', repository_type: 'local', config: '{}' };
  const ONLY_ON_SQLITE: readonly RowCase[] = [
    ['a fraction as a size', 'backup_repositories', { ...REPOSITORY, used_size_bytes: 1.5 }],
    ['a time with no zone', 'backup_repositories', { ...REPOSITORY, last_check_at: '2026-11-22 13:00:00' }],
  ];
  const VM = { context_id: 'c', vm_name: 'n' };
  const BACKUP = {
    id: 'b',
    vm_context_id: 'vm-1',
    vm_name: 'n',
    disk_id: 0,
    repository_id: 'repo-1',
    backup_type: 'full',
    repository_path: 'p',
  };
  const cases: readonly RowCase[] = [
    ['an unknown type', 'backup_repositories', { ...REPOSITORY, repository_type: 'ftp' }],
    ['an unknown health', 'backup_repositories', { ...REPOSITORY, health: 'fine' }],
    ['no configuration', 'backup_repositories', { ...REPOSITORY, config: null }],
    ['a configuration that is no JSON', 'backup_repositories', { ...REPOSITORY, config: '{' }],
    ['a boolean of 2', 'backup_repositories', { ...REPOSITORY, enabled: 2 }],
    ['a negative size', 'backup_repositories', { ...REPOSITORY, used_size_bytes: -1 }],
    ['text as a size', 'backup_repositories', { ...REPOSITORY, used_size_bytes: 'much' }],
    ['a name of 256 characters', 'backup_repositories', { ...REPOSITORY, name: 'ä'.repeat(256) }],
    ['a VM name of 256 characters', 'vm_replication_contexts', { ...VM, vm_name: '😀'.repeat(256) }],
    ['a VM id of 192 characters', 'vm_replication_contexts', { ...VM, context_id: 'a'.repeat(192) }],
    ['an unknown platform', 'vm_replication_contexts', { ...VM, platform: 'vax' }],
    ['an unknown backup type', 'backup_jobs', { ...BACKUP, backup_type: 'Full' }],
    ['an unknown status', 'backup_jobs', { ...BACKUP, status: 'done' }],
    ['a path of 513 characters', 'backup_jobs', { ...BACKUP, repository_path: 'p'.repeat(513) }],
    ['a change id of 192 characters', 'backup_jobs', { ...BACKUP, change_id: 'p'.repeat(192) }],
    ['a backup of no VM', 'backup_jobs', { ...BACKUP, vm_context_id: 'nobody' }],
    // MariaDB rounds the first to a whole number and has a type of its own for the second.
    ...(ON_MARIADB ? [] : ONLY_ON_SQLITE),
  ];

  it.each(cases)('refuse %s', async (_, table, row) => {
    const { catalog } = await openFilled();
    const names = Object.keys(row).join(', ');
    const marks = Object.keys(row).map(() => '?');
    const error = await catalog
      .run({ sql: `insert into ${table} (${names}) values (${marks.join(', ')})`, parameters: Object.values(row) })
      .catch((e) => e);
    expect(error).toMatchObject({ code: 'CATALOG_FAILED' });
    expect(constraintOf(error)).toBeDefined();
  });

  it('take what just fits', async () => {
    const { catalog } = await openFilled();
    await insertVmContext(catalog, { context_id: 'a'.repeat(191), vm_name: '😀'.repeat(255), created_at: AT });
    expect(await findVmContext(catalog, '😀'.repeat(255))).toMatchObject({
      context_id: 'a'.repeat(191),
      platform: 'other',
      metadata: null,
    });
  });

  it('unique: a repository name is taken once', async () => {
    const { catalog } = await openFilled();
    await expect(addRepository(catalog, 'repo-2', 'repo-1')).rejects.toMatchObject({ code: 'REPOSITORY_EXISTS' });
    await addRepository(catalog, 'repo-2');
    await expect(updateRepository(catalog, 'repo-2', { name: 'repo-1' })).rejects.toMatchObject({ code: 'REPOSITORY_EXISTS' });
    expect((await listRepositories(catalog)).map((repository) => repository.name)).toEqual(['repo-1', 'repo-2']);
  });
});

describe('values on their way', () => {
  it('sizes are exact up to 2^53 - 1, and nothing above is rounded', async () => {
    const { catalog, raw } = await openFilled();
    await updateBackupJob(catalog, 'b1', { size_bytes: Number.MAX_SAFE_INTEGER });
    expect(await findBackupJob(catalog, 'b1')).toMatchObject({ size_bytes: 9007199254740991 });
    await expect(updateBackupJob(catalog, 'b1', { size_bytes: 2 ** 53 })).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    for (const size of ['9007199254740992', '9007199254740993', '9223372036854775807']) {
      await raw(`update backup_jobs set size_bytes = ${size} where id = 'b1'`);
      await expect(findBackupJob(catalog, 'b1')).rejects.toMatchObject({ code: 'CATALOG_FAILED', context: { column: 'size_bytes' } });
    }
  });

  it('a text that is too long, holds NUL or half a character is refused with its reason', async () => {
    const { catalog } = await openFilled();
    const names = ['x'.repeat(256), 'a\0b', 'half \ud83d'];
    for (const vm_name of names) {
      await expect(insertVmContext(catalog, { context_id: 'c', vm_name, created_at: AT })).rejects.toMatchObject({
        code: 'CONFIG_INVALID',
      });
    }
    await expect(insertVmContext(catalog, { context_id: 'c', vm_name: 'x', created_at: 'yesterday' })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
    });
  });

  it('configuration, booleans and times come back as they went in', async () => {
    const { catalog } = await openScratch();
    const config = { path: '/it\'s "here"', list: [1, 'two', null], deep: { a: true } };
    await insertRepository(catalog, {
      id: 'r',
      name: 'r',
      repository_type: 's3',
      config,
      enabled: false,
      is_immutable: true,
      created_at: AT,
    });
    expect(await getRepository(catalog, 'r')).toMatchObject({
      config,
      enabled: false,
      is_immutable: true,
      immutable_config: null,
      created_at: AT,
      last_check_at: null,
    });
    await expect(getRepository(catalog, 'other')).rejects.toMatchObject({ code: 'REPOSITORY_NOT_FOUND' });
  });

  it('what another program left in a JSON column is not taken for ours', async () => {
    const { catalog, raw } = await openFilled();
    await raw(`update backup_repositories set config = '[1]'`);
    await expect(listRepositories(catalog)).rejects.toMatchObject({ code: 'CATALOG_FAILED', context: { column: 'config' } });
  });

  it('updated_at follows every update, by whomever, and can be set', async () => {
    const { catalog, raw } = await openFilled();
    await raw(`update backup_repositories set updated_at = '${rawTime('2020-01-01T00:00:00.000Z')}'`);
    expect(await getRepository(catalog, 'repo-1')).toMatchObject({ updated_at: '2020-01-01T00:00:00.000Z' });
    await raw('update backup_repositories set used_size_bytes = 5');
    const { updated_at } = await getRepository(catalog, 'repo-1');
    expect(Math.abs(Date.parse(updated_at) - Date.now())).toBeLessThan(60_000);
  });
});
