// A database server that is set up to lose what it has committed: said by the check, and in the log of each backup.

import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import type { BackupOutcome, DatabaseCheck } from '../../src/app-interface.ts';
import { runChainkeep } from '../cli/run-chainkeep.ts';
import { type MariadbServer, startMariadb } from '../servers/mariadb.ts';
import { noise, sharedScratchHome } from './scratch-home.ts';

const user = sharedScratchHome();
let server: MariadbServer;

beforeAll(async () => {
  const settings = ['--innodb-flush-log-at-trx-commit=2', '--innodb-doublewrite=OFF'];
  server = await startMariadb({ settings });
});
afterAll(() => server.stop());

it('is warned of, and works', async () => {
  const { createConnection } = await import('mysql2/promise');
  const { hostname, port, username } = new URL(server.address.url);
  const { password } = server.address;
  const root = await createConnection({ host: hostname, port: Number(port), user: username, password });
  onTestFinished(() => root.end());
  await root.query('create database careless');
  const env = {
    CHAINKEEP_HOME: user.path('home'),
    CHAINKEEP_DATABASE_URL: `${server.address.url}careless`,
    CHAINKEEP_DATABASE_PASSWORD: password,
  };
  const disk = user.path('disk.img');
  writeFileSync(disk, noise(100_000, 1));
  const run = async <Answer>(...args: readonly string[]): Promise<{ readonly answer: Answer; readonly notes: readonly string[] }> => {
    const { code, stdout, stderr } = await runChainkeep([...args, '--json'], { env, cwd: user.folder });
    expect(code, stderr).toBe(0);
    return { answer: JSON.parse(stdout), notes: stderr.split('\n').filter((line) => line.startsWith('note: ')) };
  };
  const made = await run<BackupOutcome>('backup', '--disk', `0=${disk}`, '--disk', `1=${disk}`, '--vm', 'vm');
  const careless = [expect.stringContaining('innodb_flush_log_at_trx_commit = 2'), expect.stringContaining('innodb_doublewrite = OFF')];
  expect(made.notes).toEqual(careless);
  const { answer } = await run<{ jobs: readonly { job_id: string }[] }>('jobs');
  const log = await run<{ events: readonly { level: string; message: string }[] }>('jobs', 'log', answer.jobs[0]?.job_id ?? '');
  expect(log.answer.events.filter(({ level }) => level === 'warn').map(({ message }) => message)).toEqual(careless);
  const check = await run<DatabaseCheck & { success: boolean }>('database', 'check');
  expect(check.answer).toMatchObject({
    ...{ success: true, found: 0 },
    warnings: [
      { setting: 'innodb_flush_log_at_trx_commit', value: '2' },
      { setting: 'innodb_doublewrite', value: 'OFF' },
    ],
  });
  expect(check.notes).toEqual(careless);
  await root.query('set global innodb_flush_log_at_trx_commit = 1');
  expect((await run('database', 'check')).notes).toEqual(careless.slice(1));
});
