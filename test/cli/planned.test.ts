import type { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { buildProgram } from '../../src/cli/program.ts';
import { parseAnswer, runChainkeep } from './run-chainkeep.ts';

/** Every command whose help says that it is planned, with a value for each of its required arguments. */
function plannedLines(command: Command, path: readonly string[]): string[][] {
  if (command.description().endsWith('(not built yet)')) {
    return [[...path, ...command.registeredArguments.filter((argument) => argument.required).map(() => 'something')]];
  }
  return command.commands.flatMap((child) => plannedLines(child, [...path, child.name()]));
}

const LINES = plannedLines(await buildProgram(), []);

describe('commands that are planned', () => {
  it('are those of the contract that do not work yet', () => {
    const names = LINES.map((line) => line.filter((word) => word !== 'something').join(' '));
    for (const name of ['prune', 'policy rule add', 'serve']) {
      expect(names).toContain(name);
    }
    expect(names).not.toContain('backup');
  });

  it.concurrent.for(LINES)('%s', async (line) => {
    const run = await runChainkeep([...line, '--json']);
    expect(run.code).toBe(1);
    expect(parseAnswer(run)).toMatchObject({
      success: false,
      error_code: 'NOT_BUILT_YET',
      error: expect.stringMatching(/is not built yet$/),
    });
    expect(run.stderr).toMatch(/^error: "chainkeep .*" is not built yet\nadvice: .+\n$/);
  });
});
