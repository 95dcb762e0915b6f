// The configured repositories: registered whole or not at all, changed, moved, disabled, and never kept waiting by one that does not answer.

import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { countBackupJobs, insertBackupJob } from '../../src/catalog/backup-jobs.ts';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { listSecrets } from '../../src/catalog/secrets.ts';
import { installationId } from '../../src/control/installation.ts';
import { ChainkeepError } from '../../src/plumbing/errors.ts';
import { silentLogger } from '../../src/plumbing/logger.ts';
import { Secret } from '../../src/plumbing/secret.ts';
import type { BlobStore } from '../../src/store/blob-store.ts';
import { openLocalStore } from '../../src/store/local/local-store.ts';
import { openStore } from '../../src/store/registry.ts';
import type { StoreConfig } from '../../src/store/store-kind.ts';
import { addVm, backupRow, setClock } from '../catalog/scratch-catalog.ts';
import { addLocal, addS3, openScene, S3, type Scene } from './repository-scene.ts';

/** The key file is not part of what a registration leaves. */
function filesOf({ folder }: Scene): readonly string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => !name.endsWith('.key'));
}

function revealed(config: StoreConfig | undefined, name: string): string | undefined {
  const value = config?.[name];
  return value instanceof Secret ? value.reveal() : undefined;
}

describe('registering', () => {
  it('keeps a reference in the configuration and gives the secret to the store alone', async () => {
    const scene = await openScene();
    const row = await addS3(scene);
    const [stored] = await listSecrets(scene.catalog);
    expect(row.config).toEqual({
      ...S3,
      ...{ region: 'us-east-1', prefix: '', path_style: false, use_object_lock: false, object_lock_mode: 'compliance' },
      ...{ server_side_encryption: 'none', checksums: true, max_object_size_gib: 5120, max_parts: 10_000, equal_parts: false },
      ...{ upload_part_size_mib: 16, upload_concurrency: 4, upload_memory_mib: 192, read_cache_mib: 64 },
      secret_access_key: { secret_id: stored?.id },
    });
    await (await scene.manager.openRepository(row, silentLogger)).repository.close();
    expect(scene.opened.map((config) => revealed(config, 'secret_access_key'))).toEqual(['hush-hush', 'hush-hush']);
  });

  it('that fails at any call to the store leaves nothing: no row, secret, marker or folder', async () => {
    const scene = await openScene();
    let failures = 0;
    for (let at = 1; ; at += 1) {
      const manager = scene.open({
        openStore: async (_type, _config, options) => failingAt(at, await openLocalStore(scene.path('a/b'), options)),
      });
      const error = await addS3({ ...scene, manager }).then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      if (error === undefined) break;
      failures = at;
      expect(error).toMatchObject({ message: `call ${at}` });
      expect([filesOf(scene), await scene.manager.listRepositories(), await listSecrets(scene.catalog)], `call ${at}`).toEqual([
        [],
        [],
        [],
      ]);
    }
    expect(failures).toBeGreaterThan(15);
  });

  it('that fails at any statement to the database leaves nothing either', async () => {
    const scene = await openScene();
    await installationId(scene.catalog);
    let failures = 0;
    for (let at = 1; ; at += 1) {
      const catalog = failingCatalog(scene.catalog, at);
      const error = await addS3({ ...scene, manager: scene.open({ catalog }) }).then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      // Read back after all was done: the registration stands, and only its answer is an error.
      if ((await scene.manager.listRepositories()).length > 0) break;
      failures = at;
      expect(error).toMatchObject({ message: `statement ${at}` });
      expect([filesOf(scene), await listSecrets(scene.catalog)], `statement ${at}`).toEqual([[], []]);
    }
    expect(failures).toBeGreaterThanOrEqual(5);
  });

  it('leaves a folder that was there, and a marker of others, as they were', async () => {
    const scene = await openScene();
    mkdirSync(scene.path('there'));
    await addLocal(scene, 'first');
    await expect(addLocal(scene, 'first', 'there')).rejects.toMatchObject({ code: 'REPOSITORY_EXISTS' });
    expect(readdirSync(scene.path('there'))).toEqual([]);
    // The same place under another catalog: what was taken over is given back when the row cannot be written.
    const other = await openScene();
    const marker = scene.path('first/chainkeep-repository.json');
    const before = readdirSync(scene.path('first'));
    const failing = {
      ...other,
      manager: other.open({ openStore: async () => failingOn('capacity', await openLocalStore(scene.path('first'), { create: false })) }),
    };
    await expect(
      failing.manager.registerRepository({ name: 'x', type: 'local', settings: { path: scene.path('first') }, takeOver: true }),
    ).rejects.toThrow('capacity');
    expect(readdirSync(scene.path('first'))).toEqual(before);
    expect(existsSync(marker)).toBe(true);
    expect(await scene.manager.checkRepository(await scene.manager.getRepository('first'))).toMatchObject({
      readOnly: false,
      problem: undefined,
    });
  });

  it('of a place of many at once: one wins, and its marker stays', async () => {
    const scene = await openScene();
    const tries = await Promise.allSettled(['a', 'b', 'c', 'd'].map((name) => addLocal(scene, name, 'same')));
    expect(tries.filter((one) => one.status === 'fulfilled')).toHaveLength(1);
    const [row] = await scene.manager.listRepositories();
    expect(row && (await scene.manager.refreshStorage(row))).toMatchObject({ problem: undefined, row: { health: 'healthy' } });
  });
});

describe('a test of a place that is not registered', () => {
  it('leaves nothing', async () => {
    const scene = await openScene();
    const steps = await scene.manager.testPlace('local', { settings: { path: scene.path('some/where') } });
    expect(steps.every((step) => step.ok)).toBe(true);
    await expect(scene.manager.testPlace('nfs', { settings: { server: 'x' } })).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    expect(filesOf(scene)).toEqual([]);
  });
});

describe('an update', () => {
  it('gives another name, disables, and refuses a name that is taken', async () => {
    const scene = await openScene();
    const { id } = await addLocal(scene, 'one');
    await addLocal(scene, 'two');
    expect(await scene.manager.updateRepository('one', { name: 'first', enabled: false })).toMatchObject({
      id,
      name: 'first',
      enabled: false,
    });
    for (const name of ['two', ''])
      await expect(scene.manager.updateRepository('first', { name })).rejects.toMatchObject({ code: /EXISTS|INVALID/ });
    expect(await scene.manager.updateRepository('first', { enabled: true })).toMatchObject({ name: 'first', enabled: true });
  });

  it('moves a repository to where it is, and nowhere else', async () => {
    const scene = await openScene();
    const { id } = await addLocal(scene, 'one');
    await addLocal(scene, 'two');
    renameSync(scene.path('one'), scene.path('moved'));
    mkdirSync(scene.path('empty'));
    renameSync(scene.path('two'), scene.path('two-moved'));
    const move = (place: string) => scene.manager.updateRepository('one', { settings: { path: scene.path(place) } });
    await expect(move('empty')).rejects.toMatchObject({ code: 'REPOSITORY_OFFLINE' });
    await expect(move('none')).rejects.toMatchObject({ code: 'REPOSITORY_OFFLINE' });
    await expect(move('two-moved')).rejects.toMatchObject({ code: 'REPOSITORY_INVALID' });
    await expect(move('two')).rejects.toMatchObject({ code: 'REPOSITORY_EXISTS' });
    expect((await scene.manager.getRepository('one')).config).toEqual({ path: scene.path('one') });
    expect(existsSync(scene.path('none'))).toBe(false);
    expect(await move('moved')).toMatchObject({ id, health: 'healthy', config: { path: scene.path('moved') } });
  });

  it('replaces a secret, keeps those that are not given, and needs no lost key for what is given again', async () => {
    const scene = await openScene();
    await addS3(scene);
    await scene.manager.updateRepository('cloud', { settings: { region: 'eu-1' } });
    expect(revealed(scene.opened.at(-1), 'secret_access_key')).toBe('hush-hush');
    const [before] = await listSecrets(scene.catalog);
    await scene.manager.updateRepository('cloud', { config: { secret_access_key: 'from a document' } });
    const row = await scene.manager.getRepository('cloud');
    const [after, ...more] = await listSecrets(scene.catalog);
    expect([after?.id === before?.id, more]).toEqual([false, []]);
    expect(row.config).toMatchObject({ region: 'eu-1', secret_access_key: { secret_id: after?.id } });
    for (const name of readdirSync(scene.folder)) if (name.endsWith('.key')) rmSync(scene.path(name));
    expect(await scene.manager.checkRepository(row)).toMatchObject({ row: { health: 'warning' }, problem: expect.stringContaining('key') });
    await expect(scene.manager.updateRepository('cloud', { settings: { region: 'eu-2' } })).rejects.toMatchObject({
      code: 'SECRET_KEY_MISSING',
    });
    await scene.manager.updateRepository('cloud', { secrets: { secret_access_key: new Secret('again') } });
    const back = await scene.manager.refreshStorage(await scene.manager.getRepository('cloud'));
    expect(back).toMatchObject({ row: { health: 'healthy' }, problem: undefined });
    expect(revealed(scene.opened.at(-1), 'secret_access_key')).toBe('again');
  });

  it('puts one secret in the place of another', async () => {
    const { manager, catalog, opened } = await openScene();
    const settings = { account_name: 'account1', container_name: 'backups' };
    await manager.registerRepository({ name: 'a', type: 'azure', settings, secrets: { account_key: new Secret('k') }, takeOver: false });
    await expect(manager.updateRepository('a', { secrets: { sas_token: new Secret('s') } })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
    });
    const row = await manager.updateRepository('a', { secrets: { sas_token: new Secret('s') }, unset: ['account_key'] });
    expect((await listSecrets(catalog)).map((secret) => secret.name)).toEqual(['sas_token']);
    expect(Object.keys(row.config)).not.toContain('account_key');
    expect(Object.keys(opened.at(-1) ?? {})).not.toContain('account_key');
  });
});

describe('a repository that does not answer', () => {
  it('delays no other, is not asked twice, and comes back by itself', async () => {
    const clock = setClock();
    const scene = await openScene(clock);
    for (const name of ['good', 'stuck', 'fine']) await addLocal(scene, name);
    const asked: string[] = [];
    let answer = (): void => undefined;
    const stuck = new Promise<void>((resolve) => {
      answer = resolve;
    });
    const manager = scene.open({
      timeLimit: 300,
      openStore: async (type, config, options) => {
        asked.push(String(config.path));
        if (config.path === scene.path('stuck')) await stuck;
        return openStore(type, config, options);
      },
    });
    const healths = async (due = false) => (await manager.refreshAll({ due })).map(({ row }) => `${row.name} ${row.health}`);
    const began = performance.now();
    expect(await healths()).toEqual(['fine healthy', 'good healthy', 'stuck offline']);
    expect(performance.now() - began).toBeLessThan(20_000);
    expect(await manager.getRepository('stuck')).toMatchObject({ health: 'offline' });
    const row = await manager.getRepository('stuck');
    await expect(manager.openRepository(row, silentLogger)).rejects.toMatchObject({ code: 'REPOSITORY_OFFLINE', retryable: true });
    expect(
      asked.filter((path) => path === scene.path('stuck')),
      'one attempt hangs, and no second one beside it',
    ).toHaveLength(1);

    // Who runs long leaves it alone for a while.
    expect(await healths(true)).toEqual(['fine healthy', 'good healthy', 'stuck offline']);
    answer();
    await sleep(50);
    expect(await healths(true), 'not due yet').toContain('stuck offline');
    clock.advance(10_000);
    expect(await healths(true)).toEqual(['fine healthy', 'good healthy', 'stuck healthy']);
    expect(await manager.getRepository('stuck')).toMatchObject({ health: 'healthy' });
  });

  it('that is disabled is not asked at all', async () => {
    const scene = await openScene();
    await addLocal(scene, 'off');
    await scene.manager.updateRepository('off', { enabled: false });
    rmSync(scene.path('off'), { recursive: true });
    expect(await scene.manager.refreshAll({ due: false })).toMatchObject([{ problem: undefined, row: { health: 'healthy' } }]);
  });
});

describe('removing', () => {
  it('is refused while a policy needs it, and then forgets nothing', async () => {
    const scene = await openScene();
    const { id } = await addLocal(scene, 'used');
    await addVm(scene.catalog);
    await insertBackupJob(scene.catalog, backupRow('b1', 1, { repository_id: id }));
    await expect(scene.manager.deleteRepository('used', { forget: false })).rejects.toMatchObject({ code: 'REPOSITORY_IN_USE' });
    const policy = 'insert into backup_policies (id, name, primary_repository_id) values (?, ?, ?)';
    await scene.catalog.run({ sql: policy, parameters: ['p', 'p', id] });
    await expect(scene.manager.deleteRepository('used', { forget: true })).rejects.toMatchObject({ code: 'REPOSITORY_IN_USE' });
    expect(await countBackupJobs(scene.catalog, { repositoryId: id })).toBe(1);
  });
});

/** Every call counts; the one at `at` fails, and those after it work. */
function failingAt(at: number, store: BlobStore): BlobStore {
  let calls = 0;
  return wrapped(store, () => {
    calls += 1;
    if (calls === at) throw new ChainkeepError('STORE_FAILED', `call ${at}`);
  });
}

function failingOn(call: string, store: BlobStore): BlobStore {
  return wrapped(store, (name) => {
    if (name === call) throw new ChainkeepError('STORE_FAILED', call);
  });
}

function wrapped(store: BlobStore, before: (call: string) => void): BlobStore {
  return {
    place: store.place,
    capabilities: store.capabilities,
    list: (prefix) => {
      before('list');
      return store.list(prefix);
    },
    stat: async (name) => {
      before('stat');
      return store.stat(name);
    },
    open: async (name) => {
      before('open');
      return store.open(name);
    },
    put: async (name, options) => {
      before('put');
      return store.put(name, options);
    },
    delete: async (name) => {
      before('delete');
      return store.delete(name);
    },
    protect: async (name, protection) => {
      before('protect');
      return store.protect(name, protection);
    },
    protectionOf: async (name) => {
      before('protectionOf');
      return store.protectionOf(name);
    },
    release: async (name) => {
      before('release');
      return store.release(name);
    },
    now: async () => {
      before('now');
      return store.now();
    },
    sweep: async (prefix, isDead) => {
      before('sweep');
      return store.sweep(prefix, isDead);
    },
    capacity: async () => {
      before('capacity');
      return store.capacity();
    },
    close: () => store.close(),
  };
}

function failingCatalog(inner: Catalog, at: number): Catalog {
  let statements = 0;
  const check = (): void => {
    statements += 1;
    if (statements === at) throw new ChainkeepError('CATALOG_FAILED', `statement ${at}`);
  };
  const failing = (catalog: Catalog): Catalog => ({
    dialect: catalog.dialect,
    clock: catalog.clock,
    all: async (statement) => {
      check();
      return catalog.all(statement);
    },
    run: async (statement, options) => {
      check();
      return catalog.run(statement, options);
    },
    transaction: (work) => catalog.transaction((unit) => work(failing(unit))),
    close: () => catalog.close(),
  });
  return failing(inner);
}
