// `repo`: the places where backups rest.

import { Command, Option } from 'commander';
import type { RepositoryView } from '../../app-interface.ts';
import { cliContext, exitAsFailed, printAnswer, printDone } from '../cli-context.ts';
import { collect } from '../option-values.ts';
import { plannedCommand } from '../planned-command.ts';
import { type RepositoryConfigOptions, readRepositoryConfig } from '../repository-config.ts';
import { safeText } from '../safe-text.ts';
import { formatSize } from '../size-text.ts';
import { renderFields, renderTable } from '../table.ts';
import { formatDuration, formatTime } from '../time-text.ts';
import { withApp } from '../with-app.ts';
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
    .addCommand(
      plannedCommand({ usage: 'storage', description: 'how full they are', options: { '--refresh': 'ask the stores now' } }, 'repo'),
    )
    .addCommand(rescanCommand());
}

function withConfigOptions(command: Command): Command {
  return command
    .option('--path <dir>', 'folder of a local repository')
    .option('--config <file>', 'settings as a JSON object; - reads stdin')
    .addOption(new Option('--set <key=value>', 'one setting; may be repeated').argParser(collect))
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
      const input = { name, type: options.type, config: readRepositoryConfig(options), take_over: options.takeOver ?? false };
      const repository = await withApp(context, (app) => app.addRepository(input));
      printDone(context, repository, () => `repository ${safeText(repository.name)} is registered: ${safeText(repository.place)}\n`);
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
      { title: 'HEALTH', cell: (row) => row.health },
      { title: 'BACKUPS', cell: (row) => String(row.backup_count), side: 'right' },
      { title: 'FREE', cell: (row) => formatSize(row.storage.available_bytes), side: 'right' },
      { title: 'PLACE', cell: (row) => row.place },
    ],
    repositories,
  );
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
    health: repository.health,
    access: repository.read_only ? 'read-only' : 'read and write',
    immutable: repository.is_immutable ? 'yes' : 'no',
    backups: String(repository.backup_count),
    room: `${formatSize(storage.available_bytes)} free of ${formatSize(storage.total_bytes)} (${storage.used_percentage.toFixed(1)} % used)`,
    'last check': formatTime(storage.last_check_at),
    created: formatTime(repository.created_at),
  });
}

function testCommand(): Command {
  return new Command('test')
    .description('a self-test of its store, with a file of our own')
    .argument('<name>', 'its name or id')
    .action(async (name: string, _options: object, command: Command) => {
      const context = cliContext(command);
      const steps = await withApp(context, (app) => app.testRepository(name));
      const success = steps.every((step) => step.ok);
      printAnswer(context, { success, steps }, () =>
        renderTable(
          [
            { title: 'STEP', cell: (row) => row.name },
            { title: 'RESULT', cell: (row) => (row.ok ? 'ok' : 'FAILED') },
            { title: 'TIME', cell: (row) => formatDuration(row.duration_ms), side: 'right' },
            { title: 'MESSAGE', cell: (row) => row.message },
          ],
          steps,
        ),
      );
      if (!success) exitAsFailed();
    });
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

function updateCommand(): Command {
  return withConfigOptions(plannedCommand({ usage: 'update <name>', description: 'change its settings' }, 'repo'));
}
