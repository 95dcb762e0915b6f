// `repo`: the places where backups rest.

import { Command, Option } from 'commander';
import type { RepositoryView } from '../../app-interface.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { cliContext, printAnswer, printDone } from '../cli-context.ts';
import { collect } from '../option-values.ts';
import { type RepositoryConfigOptions, readRepositoryConfig } from '../repository-config.ts';
import { safeText } from '../safe-text.ts';
import { formatSize } from '../size-text.ts';
import { renderFields, renderTable } from '../table.ts';
import { formatTime } from '../time-text.ts';
import { withApp } from '../with-app.ts';
import { REPOSITORY_TYPES, withConfigOptions } from './repo-config-options.ts';
import { protectCommand } from './repo-protect.ts';
import { rescanCommand } from './repo-rescan.ts';
import { storageCommand } from './repo-storage.ts';
import { testCommand } from './repo-test.ts';

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

function addCommand(): Command {
  return withConfigOptions(new Command('add'))
    .description('register a repository; a folder that is one already is registered under its own id')
    .argument('<name>', 'what it is called here')
    .addOption(new Option('--type <type>', 'kind of store').choices(REPOSITORY_TYPES).default('local'))
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
    ...limitsOf(repository),
    'last check': formatTime(storage.last_check_at),
    created: formatTime(repository.created_at),
  });
}

function describeImmutability({ immutable_config: config }: RepositoryView): string {
  const days = Number(config?.min_retention_days);
  const grace = Number(config?.grace_period_days ?? 0);
  return `backups are locked for ${days} day${days === 1 ? '' : 's'}${grace > 0 ? `, marked in the store after ${grace}` : ''}`;
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

const LIMITS: Readonly<Record<string, string>> = {
  upload_bytes_per_second: 'upload limit',
  download_bytes_per_second: 'download limit',
  concurrent_operations: 'operations at once',
};

function limitsOf({ config: { limits } }: RepositoryView): Readonly<Record<string, string>> {
  const given: Readonly<Record<string, unknown>> = typeof limits === 'object' && limits !== null ? { ...limits } : {};
  const shown = Object.entries(LIMITS).filter(([name]) => typeof given[name] === 'number');
  return Object.fromEntries(
    shown.map(([name, title]) => [title, name.endsWith('_per_second') ? `${formatSize(Number(given[name]))}/s` : String(given[name])]),
  );
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
