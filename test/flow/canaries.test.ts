// Unique canaries in every place where a secret can be, right or wrong; then everything that a user does; then a search for them, in clear, base64 and
// hex, in all that was printed and all that lies on the disk. Traced with 'strace', which shows what other programs are given.

import { randomBytes } from 'node:crypto';
import { globSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { openCatalog } from '../../src/catalog/open-catalog.ts';
import { installationId } from '../../src/control/installation.ts';
import { RepositoryManager } from '../../src/control/repository-manager.ts';
import { openKeyStore } from '../../src/control/secret-keys.ts';
import { systemClock } from '../../src/plumbing/clock.ts';
import { Secret } from '../../src/plumbing/secret.ts';
import { openLocalStore } from '../../src/store/local/local-store.ts';
import { LAUNCHER, type Run, runChainkeep } from '../cli/run-chainkeep.ts';
import { type RefusingServer, startRefusingServer } from '../servers/refusing-server.ts';
import { noise, sharedScratchHome, tool } from './scratch-home.ts';

const user = sharedScratchHome();
const home = user.path('home');
const canaries = new Map<string, string>();
const runs: { readonly line: string; readonly run: Run }[] = [];
let catalog: Catalog;
let keyFile: string;
/** In the place of Azure. */
let refusing: RefusingServer;

/** Long and random enough that no part of it is there by chance. */
function canary(name: string): string {
  const value = `canary${randomBytes(18).toString('hex')}`;
  canaries.set(name, value);
  return value;
}

interface Extra {
  readonly input?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** As text and as JSON, with every detail of an error; answers the exit codes. */
async function chainkeep(line: readonly string[], { input, env }: Extra = {}): Promise<readonly (number | null)[]> {
  const options = { cwd: user.folder, env: { CHAINKEEP_HOME: home, CHAINKEEP_DEBUG: '1', ...env }, ...(input !== undefined && { input }) };
  const ways = [line, [...line, '--json']];
  const ended = await Promise.all(ways.map((way) => runChainkeep(way, options)));
  ways.forEach((way, index) => {
    const run = ended[index];
    if (run) runs.push({ line: way.join(' '), run });
  });
  return ended.map((run) => run.code);
}

/** Repositories of the kinds that cannot be opened yet, in folders, so that there are stored secrets. */
async function plant(): Promise<void> {
  const id = await installationId(catalog);
  const manager = new RepositoryManager({
    catalog,
    clock: systemClock,
    installationId: async () => id,
    keys: async () => openKeyStore({ home, installationId: id }),
    openStore: (type, config, options) =>
      openLocalStore(user.path(`stores/${type}-${config.share_name ?? config.container_name ?? 'bucket'}`), options),
  });
  const share = { server: '127.0.0.1', share_name: 'backups', username: 'ck' };
  const azure = { account_name: 'account1', container_name: 'backups', endpoint: refusing.address };
  const s3 = { bucket: 'backups', access_key_id: 'AKIA', endpoint: refusing.address, path_style: 'true' };
  const add = (name: string, type: string, settings: Readonly<Record<string, string>>, secret: string) =>
    manager.registerRepository({ name, type, settings, secrets: { [secret]: new Secret(canary(`stored ${name}`)) }, takeOver: false });
  await add('cifs', 'cifs', share, 'password');
  await add('smb', 'smb', { ...share, share_name: 'others' }, 'password');
  await add('s3', 's3', s3, 'secret_access_key');
  await add('azure', 'azure', azure, 'account_key');
  await add('azure-sas', 'azure', { ...azure, container_name: 'more' }, 'sas_token');
  await manager.updateRepository('s3', { config: { secret_access_key: canary('given again') } });
}

beforeAll(async () => {
  mkdirSync(user.path('given'));
  mkdirSync(home, { mode: 0o700 });
  writeFileSync(user.path('disk.img'), noise(300_000, 1));
  refusing = await startRefusingServer();
  // Open as long as the commands run: so the write-ahead log is there to be searched too.
  catalog = await openCatalog({ url: `sqlite:${join(home, 'catalog.sqlite')}`, clock: systemClock });
  await plant();
  keyFile = join(home, `secrets-${await installationId(catalog)}.key`);
  await noteKeys('first');
});

afterAll(async () => {
  await catalog.close();
  await refusing.stop();
});

async function noteKeys(name: string): Promise<void> {
  const { load } = openKeyStore({ home, installationId: await installationId(catalog) });
  for (const [index, key] of load().entries()) canaries.set(`key ${name} ${index}`, key.hex.reveal());
}

const S3 = ['--type', 's3', '--set', 'bucket=b12', '--set', 'access_key_id=AKIA'];
// No file server answers there.
const SHARE = ['--set', 'server=127.0.0.1', '--set', 'share_name=s', '--set', 'username=u'];
const AZURE = ['--type', 'azure', '--set', 'account_name=account2', '--set', 'container_name=other'];

describe('secrets that are given', () => {
  it('in the right way, to servers that refuse and to one that is not there: nothing is kept', async () => {
    const file = user.path('given/secret');
    const env = () => ({ CK_SECRET: canary(`env ${canaries.size}`) });
    writeFileSync(file, `${canary('file')}\n`);
    for (const command of [
      ['repo', 'add', 'x'],
      ['repo', 'test'],
    ]) {
      const bucket = [...S3, '--set', `endpoint=${refusing.address}`, '--set', 'path_style=true'];
      expect(await chainkeep([...command, ...bucket, '--secret', 'secret_access_key=env:CK_SECRET'], { env: env() })).toEqual([1, 1]);
      expect(await chainkeep([...command, '--type', 'cifs', ...SHARE, '--secret', 'password=env:CK_SECRET'], { env: env() })).toEqual([
        1, 1,
      ]);
      await chainkeep([...command, '--type', 'smb', ...SHARE, '--secret', `password=file:${file}`]);
      for (const name of ['account_key', 'sas_token']) {
        const azure = [...AZURE, '--set', `endpoint=${refusing.address}`, '--secret', `${name}=env:CK_SECRET`];
        await chainkeep([...command, ...azure], { env: env() });
      }
      const document = { bucket: 'b12', access_key_id: 'AKIA', endpoint: refusing.address, path_style: true };
      const given = { ...document, secret_access_key: canary(`document ${canaries.size}`) };
      await chainkeep([...command, '--type', 's3', '--config', '-'], { input: JSON.stringify(given) });
    }
    for (const { line, run } of runs)
      expect(`${run.code} ${run.stderr}${run.stdout}`, line).toMatch(
        /^1 .*(the key has no permission|could not be mounted|AuthenticationFailed)/s,
      );
    expect(await user.json<{ repositories: unknown[] }>('repo', 'list')).toMatchObject({ repositories: { length: 5 } });
    expect(await catalog.all({ sql: 'select count(*) as n from secrets', parameters: [] })).toEqual([{ n: 5 }]);
  });

  it('in wrong ways: refused without being repeated', async () => {
    const wrong: readonly (readonly [readonly string[], Extra?])[] = [
      [['repo', 'add', 'x', ...S3, '--set', `secret_access_key=${canary('--set')}`]],
      [['repo', 'add', 'x', ...S3, '--set', canary('--set without a key')]],
      [['repo', 'add', 'x', ...S3, '--secret', `secret_access_key=${canary('plain --secret')}`]],
      [['repo', 'add', 'x', ...S3, '--secret', canary('--secret without a key')]],
      [['repo', 'add', 'x', ...S3, '--secret', `secret_access_key=env:${canary('as the name of a variable')}`]],
      [['repo', 'add', 'x', ...S3, '--secret', 'bucket=env:CK_SECRET'], { env: { CK_SECRET: canary('for no secret') } }],
      [['repo', 'add', 'x', ...S3, '--set', `endpoint=https://user:${canary('in an address')}@host`]],
      [['repo', 'add', 'x', ...AZURE, '--set', `endpoint=https://host/?sig=${canary('in a query')}`]],
      [['repo', 'add', 'x', '--type', 'cifs', ...SHARE, '--set', `mount_options=password=${canary('in mount options')}`]],
      [['repo', 'add', 'x', '--type', 's3', '--config', '-'], { input: `{"secret_access_key": "${canary('broken JSON')}", }` }],
      [['repo', 'add', 'x', '--type', 's3', '--config', '-'], { input: JSON.stringify({ secret_acces_key: canary('misspelt') }) }],
      [['repo', 'add', 'x', '--type', 'smb', '--config', '-'], { input: JSON.stringify({ password: { is: canary('of a wrong type') } }) }],
      [['repo', 'add', 'x', '--type', 's3', '--config', '-'], { input: JSON.stringify([canary('in a list')]) }],
      [['key', 'rotate'], { env: { CHAINKEEP_KEY: canary('a key that is none') } }],
      [['repo', 'update', 's3', '--set', `secret_access_key=${canary('--set of an update')}`]],
    ];
    for (const [line, extra] of wrong) {
      const codes = await chainkeep(line, extra);
      for (const code of codes) expect([1, 2], line.join(' ')).toContain(code);
    }
  });
});

describe('secrets that are stored', () => {
  it('are shown by no command', async () => {
    for (const line of [
      ['repo', 'list'],
      ['repo', 'storage'],
      ['repo', 'storage', '--refresh'],
      ...['s3', 'cifs', 'smb', 'azure', 'azure-sas'].map((name) => ['repo', 'show', name]),
      ['repo', 'test', 's3'],
      ['repo', 'update', 's3', '--set', 'region=eu-1'],
      ['repo', 'update', 'azure', '--disable'],
      ['repo', 'update', 's3', '--secret', 'secret_access_key=env:CK_SECRET'],
      ['repo', 'add', 'local', '--path', 'local'],
      ['backup', 'disk.img', '--vm', 'web', '--repo', 'local'],
      ['backup', 'disk.img', '--vm', 'web', '--repo', 's3'],
      ['list'],
      ['verify', '--repo', 'local'],
    ]) {
      await chainkeep(line, { env: { CK_SECRET: canary(`while ${line.join(' ')}`) } });
    }
    expect(await user.json('repo', 'show', 's3')).toMatchObject({ config: { secret_access_key: '[secret]' } });
  });

  it('survive a rotation of their key, which is shown as little as they are', async () => {
    expect(await chainkeep(['key', 'rotate'])).toEqual([0, 0]);
    await noteKeys('second');
    const given = { CHAINKEEP_KEY: randomBytes(32).toString('hex') };
    canaries.set('another key', given.CHAINKEEP_KEY);
    expect(await chainkeep(['key', 'rotate'], { env: given })).toEqual([1, 1]);
    expect(await chainkeep(['repo', 'show', 's3'], { env: given })).toEqual([0, 0]);
    const lost = await user.json<{ problem: string }>('repo', 'show', 's3');
    expect(lost.problem).toContain('no permission');
  });

  it('stand in no job', async () => {
    // The newest; what the others hold is searched in the database.
    for (const { job_id: id } of (await user.jobs()).slice(0, 5)) {
      await chainkeep(['jobs', 'show', id]);
      await chainkeep(['jobs', 'log', id]);
    }
    await chainkeep(['jobs']);
  });

  it('are given to no other program', () => {
    const key =
      readFileSync(keyFile, 'utf8')
        .split('\n')
        .find((line) => /^[0-9a-f]{64}$/.test(line)) ?? '';
    const trace = user.path('given/trace');
    // It writes what every new program is given, its environment too.
    const words = [
      '-f',
      '-v',
      '-s',
      '9999',
      '-e',
      'trace=execve',
      '-o',
      trace,
      LAUNCHER,
      'backup',
      user.path('disk.img'),
      '--vm',
      'web',
      '--repo',
      'local',
    ];
    tool('env', `CHAINKEEP_HOME=${home}`, `CHAINKEEP_KEY=${key}`, 'strace', ...words);
    const programs = readFileSync(trace, 'utf8')
      .split('\n')
      .filter((line) => line.includes('execve('));
    const node = programs.findIndex((line) => /execve\("[^"]*node", .*main\.[tj]s/.test(line));
    expect(node).toBeGreaterThanOrEqual(0);
    expect(programs.slice(node + 1)).toEqual([]);
    for (const line of programs) expect(/execve\([^[]*\[(.*?)\], \[/.exec(line)?.[1]).not.toContain(key);
  });
});

describe('a search', () => {
  it('finds them when they are there', () => {
    const value = canaries.get('file') ?? '';
    for (const hidden of [value, Buffer.from(`ab${value}`).toString('base64'), Buffer.from(value).toString('hex').toUpperCase()]) {
      expect(findCanaries(Buffer.from(`x${hidden}y`))).toEqual(['file']);
    }
  });

  it('finds none in all that was printed', () => {
    expect(canaries.size).toBeGreaterThan(30);
    expect(runs.length).toBeGreaterThan(70);
    for (const { line, run } of runs) expect(findCanaries(Buffer.from(run.stdout + run.stderr)), line).toEqual([]);
  });

  it('finds none in all files: database, its log, sidecars, markers; the keys only in their file', () => {
    const files = globSync('**', { cwd: user.folder, exclude: (name) => name === 'given' }).filter((name) =>
      statSync(user.path(name)).isFile(),
    );
    expect(files).toEqual(expect.arrayContaining(['home/catalog.sqlite', 'home/catalog.sqlite-wal', 'local/chainkeep-repository.json']));
    expect(files.filter((name) => name.endsWith('.json')).length).toBeGreaterThan(6);
    for (const name of files) {
      const found = findCanaries(readFileSync(user.path(name)));
      if (user.path(name) === keyFile) expect(found).toEqual([[...canaries.keys()].findLast((known) => known.startsWith('key second'))]);
      else expect(found, name).toEqual([]);
    }
  });
});

function findCanaries(bytes: Buffer): readonly string[] {
  const text = bytes.toString('latin1');
  const lower = text.toLowerCase();
  return [...canaries]
    .filter(([, value]) => formsOf(value).some((form) => text.includes(form) || lower.includes(form)))
    .map(([name]) => name);
}

/** The value, its hex, its base64 wherever it begins in a longer text; of a key also the base64 of its bytes. */
function formsOf(value: string): readonly string[] {
  const contents = [Buffer.from(value), ...(/^[0-9a-f]{64}$/.test(value) ? [Buffer.from(value, 'hex')] : [])];
  const base64 = contents.flatMap((content) => [0, 1, 2].map((pad) => inner(Buffer.concat([Buffer.alloc(pad), content]), pad)));
  return [value, Buffer.from(value).toString('hex'), ...base64, ...base64.map((form) => form.replaceAll('+', '-').replaceAll('/', '_'))];
}

/** Without the characters that the neighbours of the content decide too. */
function inner(bytes: Buffer, pad: number): string {
  const text = bytes.toString('base64').replace(/=+$/, '');
  return text.slice(pad === 0 ? 0 : 4, text.length - 4);
}
