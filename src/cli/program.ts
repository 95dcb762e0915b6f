// The command line as a whole: which commands there are, the options that all of them have, and what every run ends with.
// Must not do a command's work, and loads only the commands that the arguments name.

import { Command, CommanderError, Option } from 'commander';
import { ChainkeepError } from '../plumbing/errors.ts';
import { programVersion } from '../plumbing/version.ts';
import { leaveWhereStuck } from './leave-process.ts';
import { reportError } from './report-error.ts';
import { openStandardStreams } from './standard-streams.ts';

type LoadCommands = () => Promise<readonly Command[]>;

/** Every command and who makes it, in the order of the help text. */
const COMMANDS: readonly { readonly names: readonly string[]; readonly load: LoadCommands }[] = [
  { names: ['repo'], load: async () => [(await import('./commands/repo.ts')).repoCommand()] },
  { names: ['backup'], load: async () => [(await import('./commands/backup.ts')).backupCommand()] },
  { names: ['list'], load: async () => [(await import('./commands/list.ts')).listCommand()] },
  { names: ['show'], load: async () => [(await import('./commands/show.ts')).showCommand()] },
  { names: ['chain'], load: async () => [(await import('./commands/chain.ts')).chainCommand()] },
  { names: ['vms'], load: async () => [(await import('./commands/vms.ts')).vmsCommand()] },
  { names: ['verify'], load: async () => [(await import('./commands/verify.ts')).verifyCommand()] },
  { names: ['restore'], load: async () => [(await import('./commands/restore.ts')).restoreCommand()] },
  { names: ['export'], load: async () => [(await import('./commands/export.ts')).exportCommand()] },
  { names: ['delete'], load: async () => [(await import('./commands/delete.ts')).deleteCommand()] },
  { names: ['receive'], load: async () => [(await import('./commands/receive.ts')).receiveCommand()] },
  { names: ['hold'], load: async () => [(await import('./commands/hold.ts')).holdCommand()] },
  { names: ['jobs'], load: async () => [(await import('./commands/jobs.ts')).jobsCommand()] },
  { names: ['clock'], load: async () => [(await import('./commands/clock.ts')).clockCommand()] },
  { names: ['key'], load: async () => [(await import('./commands/key.ts')).keyCommand()] },
  { names: ['database'], load: async () => [(await import('./commands/database.ts')).databaseCommand()] },
  { names: ['image'], load: async () => [(await import('./commands/image.ts')).imageCommand()] },
  { names: ['nbd'], load: async () => [(await import('./commands/nbd.ts')).nbdCommand()] },
  {
    names: [...['prune', 'copy', 'repair', 'synthetic-full', 'copies', 'policy'], ...['serve', 'worker', 'schedule']],
    load: async () => (await import('./commands/planned.ts')).plannedCommands(),
  },
];

/** The whole program with every command, as the reference page shows it. */
export async function buildProgram(): Promise<Command> {
  return buildProgramWith(COMMANDS.map((entry) => entry.load));
}

/** Runs one command line; answers the exit code: 0 done, 1 failed, 2 wrong usage. Never throws. */
export async function runCommandLine(args: readonly string[]): Promise<number> {
  const code = await runCommand(args);
  await leaveWhereStuck(code);
  return code;
}

async function runCommand(args: readonly string[]): Promise<number> {
  openStandardStreams();
  const json = args.includes('--json');
  process.on('uncaughtException', (error) => process.exit(reportError(error, json)));
  try {
    const program = await buildProgramWith(commandsFor(args));
    await program.parseAsync(args, { from: 'user' });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0; // help or version was asked for and printed
    return reportError(error instanceof CommanderError ? usageError(error) : error, json);
  }
}

function commandsFor(args: readonly string[]): LoadCommands[] {
  const named = COMMANDS.filter((entry) => entry.names.some((name) => args.includes(name)));
  const wantsHelp = args.some((arg) => ['help', '--help', '-h'].includes(arg));
  if (args.includes('--version')) return [];
  return (named.length > 0 && !wantsHelp ? named : COMMANDS).map((entry) => entry.load);
}

async function buildProgramWith(loads: readonly LoadCommands[]): Promise<Command> {
  const program = new Command('chainkeep')
    .description('Backups of virtual-machine disks as chains of ordinary QCOW2 images.')
    .version(programVersion(), '--version')
    .addOption(new Option('--home <dir>', 'folder of configuration, key and embedded database').env('CHAINKEEP_HOME'))
    .addOption(new Option('--database <url>', 'sqlite:PATH or mariadb://user@host/db').env('CHAINKEEP_DATABASE_URL'))
    .option('--json', 'answer with exactly one JSON document on stdout')
    .option('--quiet', 'no progress and no words, only results and errors');
  for (const load of loads) {
    for (const command of await load()) program.addCommand(command);
  }
  forEachCommand(program, (command) => {
    command
      .exitOverride()
      .configureOutput({ outputError: () => undefined }) // errors are told in one place: reportError
      .configureHelp({ showGlobalOptions: true, ...(!process.stdout.isTTY && { helpWidth: 120 }) })
      .helpOption('-h, --help', 'what this command does');
  });
  return program;
}

function forEachCommand(command: Command, visit: (command: Command) => void): void {
  visit(command);
  for (const child of command.commands) forEachCommand(child, visit);
}

/** Commander's own findings as our error; where it guesses what was meant, the guess is the advice. */
function usageError(error: CommanderError): ChainkeepError {
  if (error.code === 'commander.help') return new ChainkeepError('USAGE', 'a command is missing');
  const [, message = error.message, guess] = /^(?:error: )?(.*?)(?:\n\((Did you mean [^\n]*)\))?$/s.exec(error.message) ?? [];
  return new ChainkeepError('USAGE', message, guess === undefined ? {} : { advice: guess });
}
