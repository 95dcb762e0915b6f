// `repo`: the places where backups rest.

import { Command, Option } from 'commander';
import type { RepositoryView, SelfTestStep } from '../../app-interface.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { cliContext, exitAsFailed, printAnswer, printDone } from '../cli-context.ts';
import { collect } from '../option-values.ts';
import { hasRepositoryConfig, type RepositoryConfigOptions, readRepositoryConfig } from '../repository-config.ts';
import { safeText } from '../safe-text.ts';
import { formatSize } from '../size-text.ts';
import { renderFields, renderTable } from '../table.ts';
import { formatDuration, formatTime } from '../time-text.ts';
import { withApp } from '../with-app.ts';
import { protectCommand } from './repo-protect.ts';
import { rescanCommand } from './repo-rescan.ts';

const TYPES = ['local', 'nfs', 'cifs', 'smb', 's3', 'azure'];

interface AddOptions extends RepositoryConfigOptions {
  readonly type: string;
  readonly takeOver?: boolean;
}

export function repoCommand(): Command {
  return new Command('repo')
    .description('repositories: the places where backups rest')
    .addCommand(addCommand())
    .addCommand(listCommand())
    .addCommand(showCommand())
    .addCommand(testCommand())
    .addCommand(updateCommand())
    .addCommand(removeCommand())
    .addCommand(storageCommand())
    .addCommand(protectCommand())
    .addCommand(rescanCommand());
}

function withConfigOptions(command: Command): Command {
  return command
    .option('--path <dir>', 'folder of a local repository')
    .option('--config <file>', 'settings as a JSON object, secrets too; - reads stdin')
    .addOption(new Option('--set <key=value>', 'one setting, no secret; may be repeated').argParser(collect))
    .addOption(new Option('--secret <key=reference>', 'a secret from env:VAR or file:PATH; may be repeated').argParser(collect));
}

function addCommand(): Command {
  return withConfigOptions(new Command('add'))
    .description('register a repository; a folder that is one already is registered under its own id')
    .argument('<name>', 'what it is called here')
    .addOption(new Option('--type <type>', 'kind of store').choices(TYPES).default('local'))
    .option('--take-over', 'become the owner of a repository of another installation')
    .action(async (name: string, options: AddOptions, command: Command) => {
      const context = cliContext(command);
      const input = { name, type: options.type, ...readRepositoryConfig(options), take_over: options.takeOver ?? false };
      const repository = await withApp(context, (app) => app.addRepository(input));
      const locks = repository.is_immutable ? `${describeImmutability(repository)}\n` : '';
      const text = `repository ${safeText(repository.name)} is registered: ${safeText(repository.place)}\n${locks}`;
      printDone(context, repository, () => text);
    });
}

function listCommand(): Command {
  return new Command('list').description('all repositories').action(async (_options: object, command: Command) => {
    const context = cliContext(command);
    const repositories = await withApp(context, (app) => app.listRepositories());
    printAnswer(context, { repositories }, () => renderRepositories(repositories));
  });
}

function renderRepositories(repositories: readonly RepositoryView[]): string {
  if (repositories.length === 0)
    return 'no repository is registered; the first backup makes one, or use: chainkeep repo add NAME --path DIR\n';
  return renderTable(
    [
      { title: 'NAME', cell: (row) => row.name },
      { title: 'TYPE', cell: (row) => row.type },
      { title: 'HEALTH', cell: healthOf },
      { title: 'BACKUPS', cell: (row) => String(row.backup_count), side: 'right' },
      { title: 'FREE', cell: (row) => formatSize(row.storage.available_bytes), side: 'right' },
      { title: 'PLACE', cell: (row) => row.place },
    ],
    repositories,
  );
}

function healthOf({ enabled, health }: RepositoryView): string {
  return enabled ? health : 'disabled';
}

function showCommand(): Command {
  return new Command('show')
    .description('one repository')
    .argument('<name>', 'its name or id')
    .action(async (name: string, _options: object, command: Command) => {
      const context = cliContext(command);
      const repository = await withApp(context, (app) => app.showRepository(name));
      printAnswer(context, repository, () => renderRepository(repository));
    });
}

function renderRepository(repository: RepositoryView): string {
  const { storage } = repository;
  return renderFields({
    name: repository.name,
    id: repository.repository_id,
    type: repository.type,
    place: repository.place,
    enabled: repository.enabled ? 'yes' : 'no: it takes no new backups',
    health: repository.health,
    ...(repository.problem !== null && { problem: repository.problem }),
    access: repository.read_only ? 'read-only' : 'read and write',
    immutable: repository.is_immutable ? describeImmutability(repository) : 'no',
    backups: String(repository.backup_count),
    room: `${formatSize(storage.available_bytes)} free of ${formatSize(storage.total_bytes)} (${storage.used_percentage.toFixed(1)} % used)`,
    'last check': formatTime(storage.last_check_at),
    created: formatTime(repository.created_at),
  });
}

function describeImmutability({ immutable_config: config }: RepositoryView): string {
  const days = Number(config?.min_retention_days);
  const grace = Number(config?.grace_period_days ?? 0);
  return `backups are locked for ${days} day${days === 1 ? '' : 's'}${grace > 0 ? `, marked in the store after ${grace}` : ''}`;
}

interface TestOptions extends RepositoryConfigOptions {
  readonly type?: string;
}

function testCommand(): Command {
  return withConfigOptions(new Command('test'))
    .description('a self-test of its store, with files of our own; with --type and settings of a place that is not registered')
    .argument('[name]', 'its name or id')
    .addOption(new Option('--type <type>', 'kind of store').choices(TYPES))
    .action(async (name: string | undefined, options: TestOptions, command: Command) => {
      const context = cliContext(command);
      const given = options.type !== undefined || hasRepositoryConfig(options);
      if ((name === undefined) !== given)
        throw new ChainkeepError('USAGE', 'give the name of a repository, or --type and the settings of a place');
      const input = { type: options.type ?? 'local', ...readRepositoryConfig(options) };
      const steps = await withApp(context, (app) => (name === undefined ? app.testPlace(input) : app.testRepository(name)));
      const success = steps.every((step) => step.ok);
      printAnswer(context, { success, steps }, () => renderSteps(steps));
      if (!success) exitAsFailed();
    });
}

function renderSteps(steps: readonly SelfTestStep[]): string {
  return renderTable(
    [
      { title: 'STEP', cell: (row) => row.name },
      { title: 'RESULT', cell: (row) => (row.ok ? 'ok' : 'FAILED') },
      { title: 'TIME', cell: (row) => formatDuration(row.duration_ms), side: 'right' },
      { title: 'MESSAGE', cell: (row) => row.message },
    ],
    steps,
  );
}

function storageCommand(): Command {
  return new Command('storage')
    .description('how full they are')
    .option('--refresh', 'ask the stores now')
    .action(async (options: { readonly refresh?: boolean }, command: Command) => {
      const context = cliContext(command);
      const repositories = await withApp(context, (app) => app.storageOfRepositories({ refresh: options.refresh ?? false }));
      const answer = repositories.map(({ repository_id, name, enabled, health, problem, storage }) => ({
        ...{ repository_id, name, enabled, health, problem },
        ...storage,
      }));
      printAnswer(context, { repositories: answer }, () => renderStorage(repositories));
    });
}

function renderStorage(repositories: readonly RepositoryView[]): string {
  if (repositories.length === 0) return 'no repository is registered\n';
  return renderTable(
    [
      { title: 'NAME', cell: (row) => row.name },
      { title: 'HEALTH', cell: healthOf },
      { title: 'TOTAL', cell: (row) => formatSize(row.storage.total_bytes), side: 'right' },
      { title: 'USED', cell: (row) => formatSize(row.storage.used_bytes), side: 'right' },
      { title: 'FREE', cell: (row) => formatSize(row.storage.available_bytes), side: 'right' },
      { title: 'USED %', cell: (row) => row.storage.used_percentage.toFixed(1), side: 'right' },
      { title: 'LAST CHECK', cell: (row) => formatTime(row.storage.last_check_at) },
      { title: 'PROBLEM', cell: (row) => row.problem ?? '' },
    ],
    repositories,
  );
}

function removeCommand(): Command {
  return new Command('remove')
    .description('remove a repository from the catalog; its files stay; refused while backups exist')
    .argument('<name>', 'its name or id')
    .option('--forget', 'also forget its backups here (the files stay and can be registered again)')
    .action(async (name: string, options: { readonly forget?: boolean }, command: Command) => {
      const context = cliContext(command);
      await withApp(context, (app) => app.removeRepository(name, { forget: options.forget ?? false }));
      printDone(context, { repository: name }, () => `repository ${safeText(name)} is removed from the catalog; its files are untouched\n`);
    });
}

interface UpdateOptions extends RepositoryConfigOptions {
  readonly name?: string;
  readonly enable?: boolean;
  readonly disable?: boolean;
  readonly unset?: readonly string[];
}

function updateCommand(): Command {
  return withConfigOptions(new Command('update'))
    .description('change its name, settings, secrets or place; a new place must hold this repository already')
    .argument('<name>', 'its name or id')
    .option('--name <new>', 'call it otherwise')
    .addOption(new Option('--enable', 'let it take backups again').conflicts('disable'))
    .option('--disable', 'take no new backups; restores go on')
    .addOption(new Option('--unset <key>', 'leave a setting out from now on; may be repeated').argParser(collect))
    .action(async (name: string, options: UpdateOptions, command: Command) => {
      const context = cliContext(command);
      const { name: newName, enable, disable, unset } = options;
      if (Object.keys(options).length === 0) throw new ChainkeepError('USAGE', 'nothing to change was given');
      const changes = {
        ...(newName !== undefined && { name: newName }),
        ...((enable || disable) && { enabled: enable === true }),
        ...(unset && { unset }),
        ...readRepositoryConfig(options),
      };
      const repository = await withApp(context, (app) => app.updateRepository(name, changes));
      printDone(context, repository, () => `repository ${safeText(repository.name)} is updated: ${safeText(repository.place)}\n`);
    });
}
