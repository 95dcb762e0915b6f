// The part of the App that is about repositories: commands as jobs, rows as views, and which one a backup goes to.

import { join } from 'node:path';
import type * as view from './app-interface.ts';
import { repositoryView, storageView } from './app-views.ts';
import type { BackupRepository } from './catalog/backup-repositories.ts';
import type { RepositoryState } from './control/repository-manager.ts';
import { reservedBytes } from './control/space.ts';
import type { JobContext, JobSpec } from './jobs/job.ts';
import type { RepositoryChoice } from './jobs/kinds/backup.ts';
import type { JobEnvironment } from './jobs/kinds/job-environment.ts';
import { ChainkeepError, isChainkeepError } from './plumbing/errors.ts';

const DEFAULT_REPOSITORY = 'default';

export async function addRepository(environment: JobEnvironment, input: view.AddRepositoryInput): Promise<view.RepositoryView> {
  const { repositories } = environment;
  const result = await asJob(environment, { jobType: 'repository', operation: `add repository ${input.name}` }, 'register', (job) =>
    repositories.registerRepository({ ...input, takeOver: input.take_over, logger: job.logger }),
  );
  return viewOf(environment, await repositories.checkRepository(result));
}

export async function updateRepository(
  environment: JobEnvironment,
  nameOrId: string,
  changes: view.UpdateRepositoryInput,
): Promise<view.RepositoryView> {
  const { repositories } = environment;
  const { name } = await repositories.getRepository(nameOrId);
  const result = await asJob(environment, { jobType: 'repository', operation: `update repository ${name}` }, 'update', () =>
    repositories.updateRepository(nameOrId, changes),
  );
  return viewOf(environment, await repositories.checkRepository(result));
}

export async function removeRepository(environment: JobEnvironment, nameOrId: string, forget: boolean): Promise<void> {
  const { repositories } = environment;
  const { name } = await repositories.getRepository(nameOrId);
  await asJob(environment, { jobType: 'repository', operation: `remove repository ${name}` }, 'remove', () =>
    repositories.deleteRepository(nameOrId, { forget }),
  );
}

export async function listRepositories(environment: JobEnvironment): Promise<readonly view.RepositoryView[]> {
  const { repositories } = environment;
  const states = (await repositories.listRepositories()).map((row) => repositories.checkRepository(row));
  return Promise.all(states.map(async (state) => viewOf(environment, await state)));
}

export async function showRepository(environment: JobEnvironment, nameOrId: string): Promise<view.RepositoryView> {
  const { repositories } = environment;
  return viewOf(environment, await repositories.refreshStorage(await repositories.getRepository(nameOrId)));
}

export async function storageOfRepositories(environment: JobEnvironment, refresh: boolean): Promise<readonly view.StorageView[]> {
  const { repositories } = environment;
  const known = async (): Promise<readonly RepositoryState[]> =>
    (await repositories.listRepositories()).map((row) => ({ row, readOnly: false, problem: undefined }));
  const states = refresh ? await repositories.refreshAll({ due: false }) : await known();
  return Promise.all(
    states.map(async (state) => {
      const { row } = state;
      const reserved = await reservedBytes(environment.catalog, row.id, environment.owner);
      return storageView(await viewOf(environment, state), await repositories.forecastStorage(row), reserved);
    }),
  );
}

export async function rotateKey(environment: JobEnvironment, forgetUnreadable: boolean): Promise<view.KeyRotation> {
  const result = await asJob(environment, { jobType: 'key', operation: 'rotate the key of secrets' }, 'rotate', () =>
    environment.repositories.rotateKeys({ forgetUnreadable }),
  );
  const { secrets, forgotten, keyId, keyPlace, fixed } = result;
  return { secrets, forgotten, key_id: keyId, key_place: keyPlace, remove_old_key: fixed };
}

/** The one named; else the only one there is; else the one called default, to be made in the home when there is none at all. */
export async function chooseRepository(
  { repositories }: JobEnvironment,
  home: string,
  nameOrId: string | undefined,
): Promise<RepositoryChoice> {
  const path = join(home, 'repositories', DEFAULT_REPOSITORY);
  const make = async (): Promise<BackupRepository> => {
    try {
      return await repositories.registerRepository({ name: DEFAULT_REPOSITORY, type: 'local', config: { path }, takeOver: false });
    } catch (error) {
      if (!isChainkeepError(error, 'REPOSITORY_EXISTS')) throw error;
      return repositories.getRepository(DEFAULT_REPOSITORY); // another first run was faster
    }
  };
  const rows = await repositories.listRepositories();
  const enabled = rows.filter((row) => row.enabled);
  const named = nameOrId === undefined ? undefined : await repositories.getRepository(nameOrId);
  const only = enabled.find(({ name }) => name === DEFAULT_REPOSITORY) ?? (enabled.length === 1 ? enabled[0] : undefined);
  const row = named ?? only ?? (rows.length === 1 ? rows[0] : undefined);
  if (row && !row.enabled) throw disabled(row);
  if (row || rows.length === 0) return { name: row?.name ?? DEFAULT_REPOSITORY, row, make };
  throw new ChainkeepError('CONFIG_INVALID', `there are ${rows.length} repositories, and none is called ${DEFAULT_REPOSITORY}`, {
    advice: `choose one with --repo: ${(enabled.length > 0 ? enabled : rows).map(({ name }) => name).join(', ')}`,
  });
}

function disabled(row: BackupRepository): ChainkeepError {
  return new ChainkeepError('REPOSITORY_DISABLED', `the repository ${row.name} is disabled and takes no new backups`, {
    advice: `choose another one with --repo, or allow it again with: chainkeep repo update ${row.name} --enable`,
    context: { repository: row.name, repository_id: row.id },
  });
}

/** What runs jobs is loaded for those that change something: a listing does without. */
async function asJob<T>(environment: JobEnvironment, spec: JobSpec, step: string, run: (job: JobContext) => Promise<T>): Promise<T> {
  const { runJob } = await import('./jobs/runner.ts');
  return (await runJob(environment, spec, {}, (job) => job.step(step, () => run(job)))).result;
}

async function viewOf({ repositories }: JobEnvironment, state: RepositoryState): Promise<view.RepositoryView> {
  return repositoryView(state, (await repositories.countBackups()).get(state.row.id) ?? 0);
}
