// `clock`: whether locks expire by the clock of this machine.

import { Command } from 'commander';
import { cliContext, exitAsFailed, printAnswer, printDone } from '../cli-context.ts';
import { formatTime } from '../time-text.ts';
import { withApp, withJob } from '../with-app.ts';

export function clockCommand(): Command {
  return new Command('clock').description('the clock that locks expire by').addCommand(showCommand()).addCommand(confirmCommand());
}

function showCommand(): Command {
  return new Command('show')
    .description('is it believed? after a jump of more than an hour nothing expires')
    .action(async (_options: object, command: Command) => {
      const context = cliContext(command);
      const clock = await withApp(context, (app) => app.clock.show());
      const text = clock.problem === null ? `${formatTime(clock.time)}: believed\n` : `nothing expires: ${clock.problem}\n`;
      printAnswer(context, clock, () => text);
      if (!clock.trusted) exitAsFailed();
    });
}

function confirmCommand(): Command {
  return new Command('confirm')
    .description('believe it as it is from now on: look at another clock first')
    .action(async (_options: object, command: Command) => {
      const context = cliContext(command);
      const clock = await withJob(context, (app, watch) => app.clock.confirm(watch));
      printDone(context, clock, () => `${formatTime(clock.time)} is believed from now on\n`);
    });
}
