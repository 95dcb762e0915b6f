// Commands and options that are part of the contract and not built yet: they can be seen in the help, and say so when used.

import { Command } from 'commander';
import { ChainkeepError } from '../plumbing/errors.ts';

/** The error of everything that is planned. */
export function notBuiltYet(what: string, advice = 'chainkeep --help shows what there is'): ChainkeepError {
  return new ChainkeepError('NOT_BUILT_YET', `${what} is not built yet`, { advice });
}

export interface PlannedCommand {
  /** Name and arguments as commander takes them: `add <backup>`. */
  readonly usage: string;
  readonly description: string;
  /** Flags and what they mean. */
  readonly options?: Readonly<Record<string, string>>;
  readonly commands?: readonly PlannedCommand[];
}

/** A command that reads its arguments, so that wrong usage is still wrong usage, and then answers NOT_BUILT_YET. */
export function plannedCommand(plan: PlannedCommand, parents = ''): Command {
  const [name = '', ...args] = plan.usage.split(' ');
  const fullName = parents ? `${parents} ${name}` : name;
  const command = new Command(name).description(plan.commands ? plan.description : `${plan.description} (not built yet)`);
  for (const arg of args) command.argument(arg);
  for (const [flags, meaning] of Object.entries(plan.options ?? {})) command.option(flags, meaning);
  for (const child of plan.commands ?? []) command.addCommand(plannedCommand(child, fullName));
  if (!plan.commands) {
    command.action(() => {
      throw notBuiltYet(`"chainkeep ${fullName}"`);
    });
  }
  return command;
}
