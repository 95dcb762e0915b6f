// Everything a user can get wrong: each time one clear line with advice, the right exit code and error code, nothing lost, nothing left behind.

import { chmodSync, mkdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { beforeAll, describe, expect, it } from 'vitest';
import type { VmView } from '../../src/app-interface.ts';
import type { ErrorCode } from '../../src/plumbing/errors.ts';
import { noise, type Refusal, scratchHome, sharedScratchHome, tool } from './scratch-home.ts';

const isRoot = process.getuid?.() === 0;
const NOBODY = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];

describe('a source that is none', () => {
  const user = sharedScratchHome();
  beforeAll(async () => {
    writeFileSync(user.path('good.img'), noise(100_000, 1));
    mkdirSync(user.path('folder'));
    tool('mkfifo', user.path('pipe'));
    symlinkSync('nowhere', user.path('dangling'));
    symlinkSync('loop', user.path('loop'));
    mkdirSync(user.path('home'));
  });

  it.for<[string, ErrorCode]>([
    ['missing.img', 'SOURCE_NOT_FOUND'],
    ['no/such/folder.img', 'SOURCE_NOT_FOUND'],
    ['dangling', 'SOURCE_NOT_FOUND'],
    ['good.img/inside', 'SOURCE_NOT_FOUND'],
    ['good.img/', 'SOURCE_NOT_FOUND'],
    ['loop', 'SOURCE_UNREADABLE'],
    ['folder', 'SOURCE_INVALID'],
    ['folder/', 'SOURCE_INVALID'],
    ['pipe', 'SOURCE_INVALID'],
    ['/dev/null', 'SOURCE_INVALID'],
    ['n'.repeat(300), 'SOURCE_NOT_FOUND'],
    ['nbd+unix:///disk?socket=/nowhere/at/all', 'CONNECTION_FAILED'],
    ['', 'USAGE'],
  ])('%s', async ([source, code]) => {
    const before = user.files();
    const refused = await user.refused(code, 'backup', source, '--vm', 'new');
    expect(user.files()).toEqual(before);
    expect(refused.error).not.toMatch(/undefined|\[object|internal error/);
    if (!code.startsWith('SOURCE_')) return;
    const [job] = await user.jobs();
    expect(job).toMatchObject({ job_type: 'backup', status: 'failed', error_message: refused.error, metadata: { error_code: code } });
  });

  it('a socket', async () => {
    const server = createServer().listen(user.path('socket'));
    try {
      await user.refused('SOURCE_INVALID', 'backup', user.path('socket'), '--vm', 'new');
    } finally {
      server.close();
    }
  });

  it('makes no VM and no repository', async () => {
    expect(await user.json('vms')).toEqual({ vms: [] });
    expect(await user.json('repo', 'list')).toEqual({ repositories: [] });
  });

  it('of two takes nothing of the other', async () => {
    const before = user.files();
    const disks = ['--disk', '0=good.img', '--disk', '1=missing.img', '--vm', 'new'];
    expect((await user.refused('SOURCE_NOT_FOUND', 'backup', ...disks)).error).toContain('missing.img');
    expect(user.files()).toEqual(before);
    expect(await user.list()).toEqual([]);
  });

  it.runIf(isRoot)('that this user may not read', async () => {
    const nobody = scratchHome();
    chmodSync(nobody.folder, 0o777);
    writeFileSync(nobody.path('secret.img'), noise(1000, 1), { mode: 0o600 });
    const before = nobody.files();
    const refused = await nobody.refusedAs(NOBODY, 'SOURCE_UNREADABLE', 'backup', nobody.path('secret.img'), '--vm', 'x');
    expect(refused.advice).toContain('user');
    expect(nobody.files()).toEqual([...before, 'home/'].sort());
    // The home is now theirs: its database is no place for somebody else.
    chmodSync(nobody.path('home'), 0o700);
  });
});

describe('wrong usage that only the database can tell, or that leaves no trace', () => {
  const user = sharedScratchHome();
  it.for<[string, ErrorCode]>([
    ['backup a.img b.img --vm x', 'USAGE'],
    ['backup a.img --vm x --type weekly', 'USAGE'],
    ['restore latest x.img', 'USAGE'],
    ['verify latest', 'USAGE'],
    ['repo rescan x', 'REPOSITORY_NOT_FOUND'],
    ['prune --vm x', 'NOT_BUILT_YET'],
  ])('%s', async ([line, code]) => {
    await user.refused(code, ...line.split(' '));
    expect(user.files().filter((file) => file !== 'home/')).toEqual([]);
  });
});

describe('an id', () => {
  const user = sharedScratchHome();
  const ids: string[] = [];
  beforeAll(async () => {
    writeFileSync(user.path('disk.img'), noise(100_000, 1));
    for (let index = 0; index < 2; index += 1) ids.push((await user.backup(user.path('disk.img'), 'web')).backup_id);
  });

  const using = (id: string): string[][] => [
    ['show', id],
    ['verify', id],
    ['restore', id, user.path('out.img')],
    ['delete', id],
  ];

  it('that does not exist', async () => {
    const before = user.files();
    for (const id of ['20990101t000000000-aaaaaaaa', '../%']) {
      for (const args of using(id)) expect((await user.refused('BACKUP_NOT_FOUND', ...args)).advice).toContain('chainkeep list');
    }
    for (const args of [
      ['show', 'x'],
      ['log', 'x'],
    ])
      await user.refused('JOB_NOT_FOUND', 'jobs', ...args);
    for (const args of [['list'], ['chain'], ['verify']]) await user.refused('VM_NOT_FOUND', ...args, '--vm', 'nobody');
    for (const args of [
      ['show', 'x'],
      ['test', 'x'],
      ['remove', 'x'],
    ])
      await user.refused('REPOSITORY_NOT_FOUND', 'repo', ...args);
    await user.refused('REPOSITORY_NOT_FOUND', 'backup', user.path('disk.img'), '--vm', 'web', '--repo', 'nowhere');
    expect(user.files()).toEqual(before);
  });

  it('that is ambiguous, with the ids it may mean', async () => {
    const before = user.files();
    for (const args of using('20')) {
      const refused = await user.refused('BACKUP_AMBIGUOUS', ...args);
      for (const id of ids) expect(refused.error).toContain(id);
      expect(refused.candidates).toEqual(ids);
    }
    await user.refused('JOB_NOT_FOUND', 'jobs', 'show', '20');
    expect(user.files()).toEqual(before);
  });

  it('"latest" of a VM that has only failed', async () => {
    await user.refused('DISK_SIZE_INVALID', 'backup', user.path('disk.img'), '--vm', 'web', '--disk', '5', '--cluster-size', '3');
    expect(await user.json('show', 'latest', '--vm', 'web')).toMatchObject({ backup_id: ids[1] });
    await user.refused('PARENT_REQUIRED', 'backup', user.path('disk.img'), '--vm', 'typo', '--type', 'incremental');
    await user.refused('PARENT_REQUIRED', 'backup', user.path('disk.img'), '--vm', 'typo', '--type', 'differential', '--dry-run');
    await user.refused('VM_NOT_FOUND', 'show', 'latest', '--vm', 'typo');
  });
});

describe('a name of a VM', () => {
  const user = sharedScratchHome();
  const emoji = '\u{1f600}';
  const longest = emoji.repeat(255);
  const names = [
    '../../etc/passwd',
    '/',
    '..',
    `it's "quoted" \`$(rm -rf /)\``,
    'two\nlines\r\tand \x1b[31mred\x07',
    ' web ',
    'web',
    'Web',
    longest,
    '--',
    '日本',
  ];

  beforeAll(() => {
    writeFileSync(user.path('disk.img'), noise(10_000, 1));
  });

  it('is data: whatever it is, it has a chain of its own, never a part of a path, and prints on one line', async () => {
    for (const name of names) {
      const outcome = await user.json<{ backup_type: string }>('backup', user.path('disk.img'), `--vm=${name}`);
      expect(outcome.backup_type, name).toBe('full');
    }
    const { vms } = await user.json<{ vms: VmView[] }>('vms');
    expect(new Set(vms.map((vm) => vm.vm_name))).toEqual(new Set(names));
    expect(vms.every((vm) => vm.backup_count === 1)).toBe(true);
    for (const name of ['Web', ' web ', longest, '..']) {
      expect(await user.json('list', `--vm=${name}`)).toMatchObject({ backups: [{ vm_name: name }] });
      expect(await user.json('verify', 'latest', `--vm=${name}`)).toMatchObject({ checked: 1, damaged: [] });
    }
    const paths = user.files('home/repositories').map((file) => file.replace(/ \d+$/, ''));
    expect(paths.every((path) => /^[a-z0-9./-]+$/.test(path))).toBe(true);
    for (const command of [['vms'], ['list'], ['jobs']]) {
      const { stdout } = await user.run(...command);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they must not be there
      expect(stdout).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f]/);
      expect(stdout.trimEnd().split('\n').length).toBeGreaterThanOrEqual(names.length + 1);
    }
    await user.verifyAll();
  });

  it.for([
    ['nothing at all', ''],
    ['4 KiB of emoji', emoji.repeat(1024)],
  ] as const)('is refused: %s', async ([, name]) => {
    const before = user.files();
    const jobs = (await user.jobs()).length;
    await user.refused('CONFIG_INVALID', 'backup', user.path('disk.img'), `--vm=${name}`);
    expect(user.files()).toEqual(before);
    expect((await user.jobs()).length).toBe(jobs);
  });

  it('that two VMs have is refused with both ids, and either id works', async () => {
    await user.json('vms', 'rename', 'Web', 'web');
    const before = user.files();
    const refused: Refusal = await user.refused('VM_AMBIGUOUS', 'backup', user.path('disk.img'), '--vm', 'web');
    const ids = (await user.json<{ vms: VmView[] }>('vms')).vms.filter((vm) => vm.vm_name === 'web').map((vm) => vm.vm_context_id);
    expect(refused.vm_context_ids).toEqual(ids);
    for (const command of [['chain'], ['list'], ['verify']]) await user.refused('VM_AMBIGUOUS', ...command, '--vm', 'web');
    expect(user.files()).toEqual(before);
    for (const id of ids) {
      expect(await user.backup(user.path('disk.img'), id)).toMatchObject({ backup_type: 'incremental', vm_context_id: id });
    }
  });

  it('and other texts that are too long are refused before anything is written', async () => {
    const before = user.files();
    await user.refused('CONFIG_INVALID', 'backup', user.path('disk.img'), '--vm', '..', '--change-id', 'c'.repeat(192));
    await user.refused('CONFIG_INVALID', 'vms', 'rename', '..', 'n'.repeat(256));
    await user.refused('CONFIG_INVALID', 'vms', 'rename', '..', '');
    await user.refused('CONFIG_INVALID', 'repo', 'add', 'r'.repeat(256), '--path', user.path('long'));
    expect(user.files()).toEqual(before);
    expect(await user.backup(user.path('disk.img'), '..', '--change-id', 'c'.repeat(191))).toMatchObject({ backup_type: 'incremental' });
    const deep = user.path(`${'d'.repeat(200)}`);
    mkdirSync(deep);
    await user.json('restore', 'latest', `${deep}/${'t'.repeat(200)}`, '--vm', '..');
    rmSync(deep, { recursive: true });
  });
});

describe('a home', () => {
  it('that cannot be made or is no home is refused', async () => {
    const user = scratchHome();
    writeFileSync(user.path('file'), '');
    await user.otherHome('file').refused('CATALOG_FAILED', 'list');
    await user.otherHome('file/inside').refused('CONFIG_INVALID', 'list');
    mkdirSync(user.path('garbage'));
    writeFileSync(user.path('garbage/catalog.sqlite'), noise(8192, 1));
    const refused = await user.otherHome('garbage').refused('CATALOG_FAILED', 'list');
    expect(refused.error).toContain('catalog.sqlite');
    truncateSync(user.path('garbage/catalog.sqlite'), 100);
    await user.otherHome('garbage').refused('CATALOG_FAILED', 'list');
  });
});

describe('a process in a bad place', () => {
  it('is told so: the current folder is gone, no more files may be opened', async () => {
    const user = scratchHome();
    mkdirSync(user.path('gone'));
    writeFileSync(user.path('disk.img'), 'x');
    const inGone = ['sh', '-c', `cd ${user.path('gone')} && rmdir ${user.path('gone')} && exec "$@" 2>/dev/null`, 'sh'];
    const answer = await user.runAs(inGone, 'backup', 'disk.img', '--vm', 'x', '--json');
    expect(answer.code).toBe(1);
    expect(JSON.parse(answer.stdout)).toMatchObject({ error_code: 'CONFIG_INVALID', error: expect.stringContaining('current folder') });
    const fewFiles = await user.refusedAs(
      ['sh', '-c', 'ulimit -n 25; exec "$@"', 'sh'],
      'CONFIG_INVALID',
      'backup',
      'disk.img',
      '--vm',
      'x',
    );
    expect(fewFiles.advice).toContain('ulimit');
    await user.backup(user.path('disk.img'), 'x');
    await user.verifyAll();
  });

  it('and a second disk that fails leaves the first one, and says so', async () => {
    const user = scratchHome();
    writeFileSync(user.path('a.img'), noise(1000, 1));
    writeFileSync(user.path('b.img'), '');
    truncateSync(user.path('b.img'), 2 ** 40);
    const disks = ['--disk', '0=a.img', '--disk', '1=b.img', '--vm', 'two', '--cluster-size', '512'];
    const run = await user.run('backup', ...disks, '--json');
    expect(JSON.parse(run.stdout)).toMatchObject({ error_code: 'DISK_SIZE_INVALID' });
    const [kept] = await user.list();
    expect(run.stderr).toMatch(new RegExp(`^note: the restore point is not complete: disk 0 is kept as ${kept?.backup_id}$`, 'm'));
    await user.expectRestores(String(kept?.backup_id), user.path('a.img'));
  });
});
