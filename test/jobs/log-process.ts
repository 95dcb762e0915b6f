// Runs a job that writes log lines under load, printing the number and the time of each line once it is logged, until it is killed or has written
// all of them: log-process.ts URL MODE [LINES] [HOSTNAME]. Modes: `steps` (every tenth line is in a step of its own), `busy` (never waits for
// anything but what resolves at once), `turns` (comes back to the event loop after each line). With a host name it says it is of another machine.

import { writeSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { openCatalog } from '../../src/catalog/open-catalog.ts';
import { currentOwner } from '../../src/control/owner.ts';
import { runJob } from '../../src/jobs/runner.ts';
import { systemClock } from '../../src/plumbing/clock.ts';
import { isChainkeepError } from '../../src/plumbing/errors.ts';

const [, , url = '', mode = '', lines = 'Infinity', hostname] = process.argv;
const catalog = await openCatalog({ url, password: process.env.DATABASE_PASSWORD, clock: systemClock });
const self = await currentOwner(catalog);
const owner = hostname === undefined ? self : { ...self, hostname };
try {
  await runJob({ catalog, clock: systemClock, owner }, { jobType: 'test', operation: 'load' }, {}, async (job) => {
    writeSync(1, `job ${job.jobId}\n`);
    for (let line = 0; line < Number(lines); line += 1) {
      job.signal.throwIfAborted();
      job.logger.log('info', `line ${line}`);
      writeSync(1, `line ${line} ${Date.now()}\n`);
      job.progress('load', line % 100, 100);
      if (mode === 'steps' && line % 10 === 0) {
        await job.step(`step ${line}`, async () => undefined);
        writeSync(1, `step ${line}\n`);
      }
      if (mode === 'turns') await turn();
      else await undefined;
      const until = performance.now() + 1;
      while (performance.now() < until);
    }
  });
  writeSync(1, 'ended\n');
} catch (error) {
  writeSync(1, `${isChainkeepError(error) ? error.code : String(error)}\n`);
}
await catalog.close();
