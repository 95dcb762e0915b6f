// A copy of the database put back, whatever happened to the database meanwhile, and whoever uses it.

import { spawn } from 'node:child_process';
import { copyFileSync, globSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { JobDetails, RestoredJobs } from '../../src/app-interface.ts';
import { rawSql } from '../catalog/scratch-catalog.ts';
import { backupIds, MIB, openHome, problems } from './database-parts.ts';
import { heldDisk } from './held-disk.ts';
import { noise, scratchHome } from './scratch-home.ts';

describe('database restore', () => {
  it('puts the copy in the place of the database and keeps that; what was made since is in the repository', async () => {
    const { user, disk, ids, database } = await openHome();
    await user.json('database', 'backup', 'copy.db');
    writeFileSync(disk, noise(MIB, 9), { flag: 'r+' });
    const { backup_id: later } = await user.backup(disk, 'vm');
    const answer = await user.json<{ replaced: string }>('database', 'restore', 'copy.db');
    expect(await backupIds(user)).toEqual(ids);
    expect(rawSql(answer.replaced, "select id from backup_jobs where status = 'completed' order by id")).toEqual([
      { id: ids[0] },
      { id: later },
    ]);
    for (const path of [database, answer.replaced]) expect(statSync(path).mode & 0o777).toBe(0o600);
    expect((await problems(user)).map(({ code, key }) => [code, key])).toEqual([['BACKUP_UNLISTED', later]]);
    expect((await user.jobs())[1]).toMatchObject({ job_type: 'database', operation: expect.stringContaining('restore') });
    // The replaced one can be put back the same way.
    await user.json('database', 'restore', answer.replaced);
    expect(await backupIds(user)).toEqual([ids[0], later].toSorted());
    expect(await user.json('database', 'check')).toMatchObject({ success: true });
    expect(globSync('home/*restoring*', { cwd: user.folder })).toEqual([]);
  });

  it('settles by the repository what the copy calls running', async () => {
    const { user } = await openHome();
    const { address, letGo } = await heldDisk(user, noise(4 * MIB, 3));
    const running = user.start('backup', address, '--vm', 'vm', '--json');
    await user.appears('**/*.qcow2.tmp-*');
    await user.json('database', 'backup', 'copy.db');
    letGo();
    const { backup_id: id, job_id } = JSON.parse((await running.ended).stdout);
    const { settled } = await user.json<RestoredJobs>('database', 'restore', 'copy.db');
    expect(settled).toEqual([{ job_id, status: 'completed', message: 'recovered' }]);
    expect(await backupIds(user)).toContain(id);
    expect((await user.json<JobDetails>('jobs', 'show', job_id)).job).toMatchObject({ status: 'completed' });
    expect(await user.json('database', 'check')).toMatchObject({ success: true });
  });

  it('is refused while somebody uses the database, and says who', async () => {
    const { user } = await openHome();
    await user.json('database', 'backup', 'copy.db');
    const { address, letGo } = await heldDisk(user, noise(4 * MIB, 3));
    const running = user.start('backup', address, '--vm', 'vm', '--json');
    await user.appears('**/*.qcow2.tmp-*');
    const [job] = await user.jobs('--status', 'running');
    const follower = user.start('jobs', 'log', String(job?.job_id), '--follow');
    const refused = await user.refused('CATALOG_IN_USE', 'database', 'restore', 'copy.db');
    expect(refused.error).toContain(`job ${job?.job_id}`);
    letGo();
    expect((await running.ended).code).toBe(0);
    await follower.ended;
    expect(await user.json('database', 'restore', 'copy.db')).toMatchObject({ success: true });
  });

  it('is refused by a process that only has it open', async () => {
    const { user, database } = await openHome();
    await user.json('database', 'backup', 'copy.db');
    const script = `const S = require('better-sqlite3'); const d = new S(${JSON.stringify(database)}); d.prepare('select 1 from settings').all(); setInterval(() => d, 1000);`;
    const holder = spawn(process.execPath, ['-e', script], { stdio: 'inherit' });
    try {
      await wait(1500);
      const refused = await user.refused('CATALOG_IN_USE', 'database', 'restore', 'copy.db');
      expect(refused.error).toContain(`process ${holder.pid}`);
    } finally {
      holder.kill('SIGKILL');
    }
  });

  it('brings back a database that is damaged or lost', async () => {
    const { user, ids, database } = await openHome();
    await user.json('database', 'backup', 'copy.db');
    writeFileSync(database, Buffer.alloc(50_000, 7));
    const { replaced } = await user.json<{ replaced: string }>('database', 'restore', 'copy.db');
    expect(readFileSync(replaced).equals(Buffer.alloc(50_000, 7))).toBe(true);
    expect(await backupIds(user)).toEqual(ids);
    for (const file of globSync('home/catalog.sqlite*', { cwd: user.folder })) rmSync(user.path(file));
    expect(await user.json('database', 'restore', 'copy.db')).toMatchObject({ replaced: null });
    expect(await backupIds(user)).toEqual(ids);
    expect(statSync(database).mode & 0o777).toBe(0o600);
  });

  it('refuses a file that is no sound copy and touches nothing; an older one is brought up to date', async () => {
    const { user, ids, database } = await openHome();
    await user.json('database', 'backup', 'copy.db');
    const before = readFileSync(database);
    writeFileSync(user.path('words'), 'not a database at all, only words '.repeat(1000));
    writeFileSync(user.path('cut.db'), readFileSync(user.path('copy.db')).subarray(0, 100_000));
    rawSql(user.path('other.db'), 'create table t (x)');
    copyFileSync(user.path('copy.db'), user.path('new.db'));
    rawSql(user.path('new.db'), 'pragma user_version = 9999');
    copyFileSync(user.path('copy.db'), user.path('odd.db'));
    rawSql(user.path('odd.db'), `update job_tracking set metadata = '[1]'`);
    for (const name of ['words', 'cut.db', 'other.db', 'nowhere', 'odd.db', database]) {
      await user.refused('CATALOG_INVALID', 'database', 'restore', name);
    }
    await user.refused('CATALOG_TOO_NEW', 'database', 'restore', 'new.db');
    expect(readFileSync(database).equals(before)).toBe(true);
    expect(globSync('home/*re{storing,placed}*', { cwd: user.folder })).toEqual([]);

    copyFileSync(user.path('copy.db'), user.path('old.db'));
    rawSql(user.path('old.db'), 'drop table job_heartbeats');
    rawSql(user.path('old.db'), 'pragma user_version = 57');
    const old = readFileSync(user.path('old.db'));
    await user.json('database', 'restore', 'old.db');
    expect(readFileSync(user.path('old.db')).equals(old)).toBe(true);
    expect(await backupIds(user)).toEqual(ids);
  });

  it('killed at any moment leaves the old database or the new one', async () => {
    const { user, disk, ids } = await openHome();
    await user.json('database', 'backup', 'copy.db');
    writeFileSync(disk, noise(MIB, 9), { flag: 'r+' });
    const { backup_id: later } = await user.backup(disk, 'vm');
    const both = [...ids, later].toSorted();
    await user.json('database', 'backup', 'newer.db');
    const calls = 'pwrite64,rename,renameat2,link,linkat,unlink,unlinkat,fsync,fdatasync,ftruncate';
    const ends = new Set<string>();
    for (const [index, at] of [10, 30, 60, 120, 180, 240, 300, 360, 420, 480].entries()) {
      const copy = index % 2 === 0 ? 'copy.db' : 'newer.db';
      const tracing = ['-f', '-qq', '-o', '/dev/null', '-e', `trace=${calls}`, '-e', `inject=${calls}:signal=KILL:when=${at}`];
      const run = await user.traced(tracing, ['database', 'restore', copy]);
      const now = await backupIds(user);
      expect([ids, both], `killed at ${at}`).toContainEqual(now);
      expect(rawSql(user.path('home/catalog.sqlite'), 'pragma integrity_check')).toEqual([{ integrity_check: 'ok' }]);
      ends.add(`${run.code === 0 ? 'ended' : 'killed'}, ${now.length === (copy === 'copy.db' ? 1 : 2) ? 'new' : 'old'}`);
    }
    expect([...ends]).toContain('killed, old');
    await user.json('database', 'restore', 'newer.db');
    expect(await backupIds(user)).toEqual(both);
  });

  it('and backup of a database on a server name the tools of that', async () => {
    const user = scratchHome();
    const refused = await user.refused('NOT_SUPPORTED', 'database', 'restore', 'x', '--database', 'mariadb://a@localhost/b');
    expect(refused.advice).toContain('mariadb DATABASE');
  });
});
