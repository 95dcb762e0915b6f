// A command that serves disks over NBD: started, its one JSON document read, and killed when the test ends.

import { expect, onTestFinished } from 'vitest';
import type { RunningCommand, ScratchHome } from './scratch-home.ts';

export type Serving<Answer> = Answer & { readonly command: RunningCommand };

export async function startServing<Answer>(user: ScratchHome, ...args: readonly string[]): Promise<Serving<Answer>> {
  const command = user.start(...args, '--json');
  onTestFinished(() => command.kill('SIGKILL'));
  const answer: Answer = JSON.parse(await command.printed('\n'));
  return { ...answer, command };
}

/** As a person ends it. */
export async function endServing({ command }: Serving<object>): Promise<void> {
  command.kill('SIGINT');
  expect(await command.ended).toMatchObject({ code: 0 });
}
