// The settings of immutability as the catalog keeps them: changed by the owner of a repository alone, and kept where it was copied to.

import { readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Secret } from '../../src/plumbing/secret.ts';
import { addS3, openScene } from './repository-scene.ts';

it('are kept, and taken back', async () => {
  const { manager, path } = await openScene();
  const settings = { path: path('locked'), 'immutable_config.type': 'linux_chattr', 'immutable_config.min_retention_days': '30' };
  const row = await manager.registerRepository({ name: 'locked', type: 'local', settings, takeOver: false });
  expect(row).toMatchObject({
    is_immutable: true,
    min_retention_days: 30,
    immutable_config: { type: 'linux_chattr', min_retention_days: 30, grace_period_days: 0 },
    config: { path: path('locked') },
  });
  expect(await manager.updateRepository('locked', { unset: ['immutable_config'] })).toMatchObject({
    is_immutable: false,
    immutable_config: null,
  });
});

it('are not changed in a repository that another installation took over', async () => {
  const [ours, theirs] = [await openScene(), await openScene()];
  const week = { 'immutable_config.type': 'linux_chattr', 'immutable_config.min_retention_days': '7' };
  const place = { type: 'local', settings: { path: ours.path('vault'), ...week } };
  const before = await ours.manager.registerRepository({ name: 'vault', ...place, takeOver: false });
  await theirs.manager.registerRepository({ name: 'vault', ...place, takeOver: true });
  const marker = readFileSync(join(ours.path('vault'), 'chainkeep-repository.json'), 'utf8');
  for (const changes of [
    { unset: ['immutable_config'] },
    { settings: { 'immutable_config.min_retention_days': '1' } },
    { settings: { 'immutable_config.min_retention_days': '30' } },
  ]) {
    await expect(ours.manager.updateRepository('vault', changes)).rejects.toMatchObject({ code: 'REPOSITORY_FOREIGN' });
  }
  expect(await ours.manager.getRepository('vault')).toMatchObject({ immutable_config: before.immutable_config });
  expect(readFileSync(join(ours.path('vault'), 'chainkeep-repository.json'), 'utf8')).toBe(marker);
  await ours.manager.updateRepository('vault', { settings: { 'limits.concurrent_operations': '2' } });
});

it('of a repository that was copied to another kind of store stay, whatever else is changed', async () => {
  const scene = await openScene();
  const week = { 'immutable_config.type': 'linux_chattr', 'immutable_config.min_retention_days': '7' };
  const here = { name: 'here', type: 'local', settings: { path: scene.path('here'), ...week }, takeOver: false };
  await scene.manager.registerRepository(here);
  await scene.manager.deleteRepository('here', { forget: true });
  renameSync(scene.path('here'), scene.path('backups'));
  const cloud = await addS3(scene);
  expect(cloud.immutable_config).toMatchObject({ type: 's3_object_lock', min_retention_days: 7 });
  const changed = await scene.manager.updateRepository('cloud', { settings: { 'limits.concurrent_operations': '2' } });
  expect(changed).toMatchObject({ immutable_config: cloud.immutable_config, config: { limits: { concurrent_operations: 2 } } });
  const secrets = { secret_access_key: new Secret('another') };
  expect((await scene.manager.updateRepository('cloud', { secrets })).immutable_config).toEqual(cloud.immutable_config);
});
