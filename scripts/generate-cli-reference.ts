// Writes docs/reference/cli.md from the commands themselves; `--check` for CI.

import type { Argument, Command, Option } from 'commander';
import { buildProgram } from '../src/cli/program.ts';
import { writePage } from './written-page.ts';

const cell = (text: string): string => text.replaceAll('|', '\\|');

function describeArgument(argument: Argument): string {
  const name = argument.required ? `<${argument.name()}>` : `[${argument.name()}]`;
  return `| \`${name}\` | ${cell(argument.description)} |`;
}

function describeOption(option: Option): string {
  const details = [
    option.mandatory ? 'required' : '',
    option.argChoices ? `one of ${option.argChoices.map((choice) => `\`${choice}\``).join(', ')}` : '',
    option.defaultValue === undefined ? '' : `default \`${option.defaultValue}\``,
    option.envVar ? `also \`${option.envVar}\`` : '',
  ].filter((detail) => detail !== '');
  return `| \`${cell(option.flags)}\` | ${cell([option.description, ...details].join('; '))} |`;
}

function table(rows: readonly string[]): string {
  return rows.length === 0 ? '' : `\n|  |  |\n| --- | --- |\n${rows.join('\n')}\n`;
}

function describeCommand(command: Command, parents: string): string {
  const name = `${parents} ${command.name()}`;
  const children = command.commands.map((child) => describeCommand(child, name)).join('');
  const help = command.createHelp();
  const options = help.visibleOptions(command).filter((option) => option.long !== '--help');
  const usage = command
    .usage()
    .replace(options.length === 0 ? '[options]' : '[command]', '')
    .replace('[command]', '')
    .trim();
  const rows = [...command.registeredArguments.map(describeArgument), ...options.map(describeOption)];
  return `\n## ${name}\n\n\`${name}${usage && ` ${usage}`}\`: ${command.description()}\n${table(rows)}${children}`;
}

const program = await buildProgram();
writePage(
  'docs/reference/cli.md',
  `<!-- Made by scripts/generate-cli-reference.ts; do not edit. -->

# The command line

In a clone the program is \`./chainkeep\`, installed from npm it is \`chainkeep\`. Exit codes: 0 done, 1 failed (a message and advice on stderr), 2 wrong usage.
Sizes are bytes, or take k, M, G, T, P (powers of 1024). Times are shown local; JSON has UTC.

These options work with every command, before or after its name:
${table(program.options.filter((option) => option.long !== '--help').map(describeOption))}${program.commands.map((command) => describeCommand(command, program.name())).join('')}`,
);
