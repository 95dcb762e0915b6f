// What the options that every command has come down to: where the home is, and how answers are given.

import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { safeJson } from './safe-text.ts';

export interface CliContext {
  /** Absolute. */
  readonly home: string;
  readonly databaseUrl: string | undefined;
  readonly json: boolean;
  readonly quiet: boolean;
}

interface GlobalOptions {
  readonly home?: string;
  readonly database?: string;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

export function cliContext(command: Command): CliContext {
  const options: GlobalOptions = command.optsWithGlobals();
  return {
    home: resolve(options.home || defaultHome()),
    databaseUrl: options.database || undefined,
    json: options.json ?? false,
    quiet: options.quiet ?? false,
  };
}

function defaultHome(): string {
  return process.getuid?.() === 0 ? '/var/lib/chainkeep' : join(homedir(), '.local/share/chainkeep');
}

/** The answer of a command: with `--json` one document, else text for people. */
export function printAnswer(context: CliContext, json: object, text: () => string): void {
  process.stdout.write(context.json ? `${safeJson(json)}\n` : text());
}

/** Like `printAnswer` for what only confirms that something was done: `--quiet` leaves the words out. */
export function printDone(context: CliContext, json: object, text: () => string): void {
  if (context.json || !context.quiet) printAnswer(context, { success: true, ...json }, text);
}

/** For a command whose work is done but found something bad (damage, a failed self-test): the answer is printed, the exit code is 1. */
export function exitAsFailed(): void {
  process.exitCode = 1;
}
