// What the commands answer, as JSON and as text: the shapes of the contract, and what people see.
// One small disk with a chain of three backups and a second VM with a hostile name.

import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseAnswer, type Run, runChainkeep } from './run-chainkeep.ts';

const folder = mkdtempSync(join(tmpdir(), 'chainkeep-answers-'));
const path = (name: string): string => join(folder, name);
const home = path('home');
const UNSAFE = ['\x1b', '\u202e'];
const HOSTILE = 'evil\x1b[31m\nvm \u202efdp 文字';

const run = (...args: string[]): Promise<Run> => runChainkeep(args, { env: { CHAINKEEP_HOME: home, TZ: 'Asia/Tokyo' } });

async function answer(...args: string[]): Promise<Record<string, unknown>> {
  const result = await run(...args, '--json');
  expect(result, `${args.join(' ')}: ${result.stderr}`).toMatchObject({ code: 0 });
  return parseAnswer(result);
}

async function list(key: string, ...args: string[]): Promise<Record<string, unknown>[]> {
  const value = (await answer(...args))[key];
  if (!Array.isArray(value)) throw new Error(`${key} is no list`);
  return value;
}

const text = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value));

const ids: string[] = [];
const first: Record<string, unknown>[] = [];

beforeAll(async () => {
  writeFileSync(path('disk.raw'), Buffer.concat([randomBytes(300_000), Buffer.alloc(700_000)]));
  for (const byte of [1, 2, 3]) {
    const bytes = readFileSync(path('disk.raw'));
    bytes.fill(byte, 65_536, 131_072);
    writeFileSync(path('disk.raw'), bytes);
    const outcome = await answer('backup', path('disk.raw'), '--vm', 'web');
    ids.push(text(outcome.backup_id));
    first.push(outcome);
  }
}, 60_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('backup', () => {
  const FIELDS = [
    ...['success', 'backup_id', 'backup_type', 'parent_backup_id', 'vm_context_id', 'disk_id', 'repository', 'total_bytes', 'size_bytes'],
    ...['bytes_read', 'bytes_written', 'clusters_written', 'duration_ms', 'job_id'],
  ];

  it('answers the fields of the contract, flat for one disk', () => {
    for (const outcome of first) expect(Object.keys(outcome)).toEqual(expect.arrayContaining(FIELDS));
    expect(first.map((outcome) => outcome.backup_type)).toEqual(['full', 'incremental', 'incremental']);
    expect(first.map((outcome) => outcome.parent_backup_id)).toEqual([null, ids[0], ids[1]]);
    expect(first[0]).toMatchObject({ success: true, disk_id: 0, total_bytes: 1_000_000, repository: 'default' });
  });

  it('answers a list for several disks, one restore point', async () => {
    const outcome = await answer('backup', '--disk', `0=${path('disk.raw')}`, '--disk', `3=${path('disk.raw')}`, '--vm', HOSTILE);
    expect(outcome).toMatchObject({ success: true, restore_point_id: expect.any(String), backups: [{ disk_id: 0 }, { disk_id: 3 }] });
  });

  it('tells people in a line, and nothing with --quiet', async () => {
    const said = await run('backup', path('disk.raw'), '--vm', 'quiet');
    expect(said.stdout).toMatch(/^\S+: full backup of disk 0 in default: 976\.6 KiB disk, .* read, .* stored, .*\n$/);
    expect(await run('backup', path('disk.raw'), '--vm', 'quiet', '--quiet')).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  it('says with --dry-run what it would do, and does nothing', async () => {
    const before = readdirSync(home, { recursive: true }).filter((file) => /\.(qcow2|digests|json)$/.test(text(file)));
    expect(await answer('backup', path('disk.raw'), '--vm', 'web', '--dry-run')).toMatchObject({
      dry_run: true,
      backup_type: 'incremental',
    });
    expect((await run('backup', path('disk.raw'), '--vm', 'web', '--dry-run')).stdout).toMatch(/^would make a backup: incremental on /);
    expect(readdirSync(home, { recursive: true }).filter((file) => /\.(qcow2|digests|json)$/.test(text(file)))).toEqual(before);
  });

  it('makes source paths absolute by the folder it is run in', async () => {
    const result = await runChainkeep(['backup', 'disk.raw', '--vm', 'relative', '--json'], { cwd: folder, env: { CHAINKEEP_HOME: home } });
    expect(result, result.stderr).toMatchObject({ code: 0 });
  });
});

describe('list, show, chain and vms', () => {
  it('list the backups of a VM', async () => {
    const backups = await list('backups', 'list', '--vm', 'web');
    expect(new Set(backups.map((backup) => backup.backup_id))).toEqual(new Set(ids));
    expect(Object.keys(backups[0] ?? {})).toEqual(
      expect.arrayContaining([
        ...['backup_id', 'vm_name', 'vm_context_id', 'disk_id', 'backup_type', 'status', 'parent_backup_id', 'repository', 'size_bytes'],
        ...['total_bytes', 'created_at', 'completed_at'],
      ]),
    );
    expect(backups[0]?.created_at).toMatch(/^\d{4}-\d\d-\d\dT.*Z$/);
  });

  it('show times local, sizes readable, columns aligned', async () => {
    const { stdout } = await run('list', '--vm', 'web');
    const lines = stdout.trimEnd().split('\n');
    expect(lines).toHaveLength(4);
    expect(lines[0]).toMatch(/^BACKUP +VM +DISK +TYPE +STATUS +STORED +DISK SIZE +CREATED +REPOSITORY$/);
    const [backup] = await list('backups', 'list', '--vm', 'web');
    const local = new Date(Date.parse(text(backup?.created_at)) + 9 * 3600 * 1000).toISOString().slice(0, 19).replace('T', ' ');
    expect(stdout).toContain(local);
    expect(stdout).toContain('976.6 KiB');
    const column = lines[0]?.indexOf('TYPE') ?? 0;
    for (const line of lines.slice(1)) expect(line.slice(column)).toMatch(/^(full|incremental)/);
  });

  it('never print a name raw', async () => {
    for (const args of [['list'], ['vms'], ['jobs'], ['chain', '--vm', HOSTILE], ['list', '--vm', `${HOSTILE}x`]]) {
      const { stdout, stderr } = await run(...args);
      for (const character of UNSAFE) expect(stdout + stderr, args[0]).not.toContain(character);
    }
    expect((await run('vms')).stdout).toContain('evil\\x1b[31m\\nvm \\u{202e}fdp 文字');
    const vms = await list('vms', 'vms');
    expect(vms.map((vm) => vm.vm_name)).toContain(HOSTILE);
    const json = (await run('vms', '--json')).stdout;
    for (const character of UNSAFE) expect(json).not.toContain(character);
  });

  it('show one backup, by id, by a beginning, or the latest', async () => {
    const [, , last = ''] = ids;
    expect(await answer('show', last)).toMatchObject({ backup_id: last, dependents: [], parent_backup_id: ids[1] });
    expect(await answer('show', last.slice(0, -2))).toMatchObject({ backup_id: last });
    expect(await answer('show', 'latest', '--vm', 'web')).toMatchObject({ backup_id: last });
    const { stdout } = await run('show', last);
    expect(stdout).toMatch(/^vm +web \(.+\)$/m);
    expect(stdout).toMatch(/^disk size +976\.6 KiB \(1000000 bytes\)$/m);
  });

  it('tell an id that does not exist, or is ambiguous, in one line with advice', async () => {
    const missing = await run('show', 'nothing', '--json');
    expect(missing.code).toBe(1);
    expect(parseAnswer(missing)).toMatchObject({ success: false, error_code: 'BACKUP_NOT_FOUND' });
    expect(missing.stderr).toMatch(/^error: .+\nadvice: .+\n$/);
    const ambiguous = await run('show', (ids[0] ?? '').slice(0, 3), '--json');
    expect(parseAnswer(ambiguous)).toMatchObject({ success: false, error_code: 'BACKUP_AMBIGUOUS' });
  });

  it('show chains, each full first', async () => {
    const chains = await list('chains', 'chain', '--vm', 'web');
    expect(chains).toHaveLength(1);
    expect(chains[0]).toMatchObject({ full_backup_id: ids[0], latest_backup_id: ids[2], total_backups: 3 });
    expect(chains[0]?.backups).toMatchObject(ids.map((backup_id) => ({ backup_id })));
    const { stdout } = await run('chain', '--vm', 'web', '--disk', '0');
    expect(stdout).toMatch(/^chain \S+: disk 0 in default, 3 backups, .* stored\nBACKUP /);
    expect(await list('chains', 'chain', '--vm', 'web', '--disk', '7')).toEqual([]);
  });

  it('rename a VM, whose backups stay', async () => {
    await answer('vms', 'rename', 'relative', 'renamed');
    expect(await list('backups', 'list', '--vm', 'renamed')).toHaveLength(1);
    expect((await run('vms', 'rename', 'renamed', 'relative')).stdout).toBe('renamed is now called relative\n');
  });
});

describe('repo', () => {
  it('adds, lists, shows, tests and removes', async () => {
    expect(await answer('repo', 'add', 'second', '--path', path('second'))).toMatchObject({ success: true, name: 'second', type: 'local' });
    expect((await list('repositories', 'repo', 'list')).map((repository) => repository.name)).toContain('second');
    expect(await answer('repo', 'show', 'second')).toMatchObject({ name: 'second', backup_count: 0, place: path('second') });
    expect(await answer('repo', 'test', 'second')).toMatchObject({ success: true, steps: expect.any(Array) });
    expect((await run('repo', 'list')).stdout).toMatch(/^second +local +\S+ +0 +\S+ \S+ +.*second$/m);
    expect((await run('repo', 'show', 'second')).stdout).toMatch(/^access +read and write$/m);
    expect((await run('repo', 'test', 'second')).stdout).toMatch(/ ok /);
    expect((await run('repo', 'remove', 'second')).stdout).toContain('repository second is removed');
    expect(parseAnswer(await run('repo', 'show', 'second', '--json'))).toMatchObject({ error_code: 'REPOSITORY_NOT_FOUND' });
  });

  it('refuses to remove one that holds backups, and says how many', async () => {
    const refused = await run('repo', 'remove', 'default', '--json');
    expect(refused.code).toBe(1);
    expect(parseAnswer(refused)).toMatchObject({ error_code: 'REPOSITORY_IN_USE', backup_count: expect.any(Number) });
  });

  it('says of a share that the system should have mounted that it is not', async () => {
    const settings = ['server=nas', 'export_path=/backups', 'mount_point=/mnt/chainkeep-test', 'system_mount=nfs4 nas:/backups'];
    const refused = await run('repo', 'add', 'cloud', '--type', 'nfs', ...settings.flatMap((pair) => ['--set', pair]), '--json');
    expect(refused.code).toBe(1);
    expect(parseAnswer(refused)).toMatchObject({ success: false, error_code: 'REPOSITORY_OFFLINE', mount_point: '/mnt/chainkeep-test' });
  });
});

describe('restore', () => {
  it('writes the disk, and refuses to overwrite it', async () => {
    const target = path('restored.raw');
    expect(await answer('restore', 'latest', target, '--vm', 'web')).toMatchObject({
      success: true,
      backup_id: ids[2],
      total_bytes: 1_000_000,
    });
    const restored = readFileSync(target);
    expect(restored.subarray(65_536, 131_072).every((byte) => byte === 3)).toBe(true);
    const refused = await run('restore', ids[0] ?? '', target, '--json');
    expect(refused.code).toBe(1);
    expect(parseAnswer(refused)).toMatchObject({ error_code: 'TARGET_EXISTS' });
    expect((await run('restore', ids[0] ?? '', target, '--force')).stdout).toMatch(/ is restored to .*restored\.raw: 976\.6 KiB disk/);
    expect(
      readFileSync(target)
        .subarray(65_536, 131_072)
        .every((byte) => byte === 1),
    ).toBe(true);
  });

  it('says with --dry-run what it would read', async () => {
    const target = path('never.raw');
    expect(await answer('restore', ids[2] ?? '', target, '--dry-run')).toMatchObject({
      dry_run: true,
      job_id: null,
      chain: [...ids].reverse(),
    });
    expect((await run('restore', ids[2] ?? '', target, '--dry-run')).stdout).toMatch(/^would restore .* from 3 images:\n/);
    expect(readdirSync(folder)).not.toContain('never.raw');
  });
});

describe('jobs', () => {
  it('list, show and log what was done', async () => {
    const jobs = await list('jobs', 'jobs');
    expect(jobs.length).toBeGreaterThan(3);
    const id = text(first[0]?.job_id);
    const { job, steps } = await answer('jobs', 'show', id);
    expect(job).toMatchObject({ job_id: id, status: 'completed', percent_complete: 100 });
    expect(steps).toEqual(expect.arrayContaining([expect.objectContaining({ status: 'completed' })]));
    expect(await answer('jobs', 'log', id)).toMatchObject({ job_id: id, events: expect.any(Array) });
    expect((await run('jobs', '--status', 'completed')).stdout).toMatch(/^JOB +TYPE +STATUS +DONE +CREATED +COMPLETED +OPERATION$/m);
    expect((await run('jobs', 'show', id)).stdout).toMatch(/^STEP +NAME +STATUS +STARTED +COMPLETED/m);
    expect((await run('jobs', 'log', id)).code).toBe(0);
    expect(parseAnswer(await run('jobs', 'show', 'nothing', '--json'))).toMatchObject({ error_code: 'JOB_NOT_FOUND' });
  });
});

describe('delete and verify', () => {
  it('delete refuses a backup that others need', async () => {
    const refused = await run('delete', ids[0] ?? '', '--json');
    expect(refused.code).toBe(1);
    expect(parseAnswer(refused)).toMatchObject({ error_code: 'BACKUP_HAS_DEPENDENTS' });
    expect(refused.stderr).toContain('prune');
  });

  it('delete says what it would do, and does it', async () => {
    const latest = text((await answer('show', 'latest', '--vm', 'quiet')).backup_id);
    expect(await answer('delete', latest, '--dry-run')).toMatchObject({
      dry_run: true,
      backup_id: latest,
      freed_bytes: expect.any(Number),
    });
    expect((await run('delete', latest, '--dry-run')).stdout).toMatch(/^would delete /);
    expect((await run('delete', latest)).stdout).toMatch(/ is deleted, .* freed\n$/);
    expect(parseAnswer(await run('show', latest, '--json'))).toMatchObject({ error_code: 'BACKUP_NOT_FOUND' });
  });

  it('verify counts what it checked', async () => {
    expect(await answer('verify', '--vm', 'web')).toMatchObject({ success: true, checked: 3, damaged: [], clusters: expect.any(Number) });
    expect(await answer('verify', 'latest', '--vm', 'web', '--quick')).toMatchObject({ success: true, damaged: [] });
    expect((await run('verify', '--repo', 'default')).stdout).toMatch(/^\d+ backups checked, no damage \(\d+ clusters, .*\)\n$/);
  });

  it('verify names the damage, where it is, and every restore point that it hits', async () => {
    const image = readdirSync(home, { recursive: true, encoding: 'utf8' }).find((file) => file.endsWith(`${ids[0]}.qcow2`)) ?? '';
    const file = join(home, image);
    const map: { start: number; data: boolean; offset?: number }[] = JSON.parse((await run('image', 'map', file, '--json')).stdout);
    const compressed = map.every((entry) => entry.offset === undefined);
    const at = compressed ? Math.floor(readFileSync(file).length / 2) : (map.find((entry) => entry.data)?.offset ?? 0);
    const bytes = readFileSync(file);
    bytes[at] = (bytes[at] ?? 0) ^ 0x40;
    execFileSync('chmod', ['u+w', file]);
    writeFileSync(file, bytes);
    const found = await run('verify', '--vm', 'web', '--json');
    expect(found.code).toBe(1);
    const { success, damaged, error, error_code } = parseAnswer(found);
    expect({ success, error, error_code }).toEqual({ success: false, error: expect.any(String), error_code: expect.any(String) });
    expect(damaged).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ backup_id: ids[0], code: expect.any(String), affects: expect.arrayContaining([ids[0]]) }),
      ]),
    );
    const said = await run('verify', '--vm', 'web');
    expect(said.code).toBe(1);
    expect(said.stdout).toMatch(new RegExp(`^${ids[0]}: [A-Z0-9_]+.*\\n  restore points hit: `, 'm'));
    expect(said.stderr).toMatch(/^error: 3 backups checked, damage in \d+ places? .*\nadvice: .*\n$/m);
  });
});
