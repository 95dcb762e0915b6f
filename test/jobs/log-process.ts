// Runs a job that writes log lines under load, printing the number of each line once it is logged, until it is killed.
// Every tenth line is in a step of its own. The main thread is kept busy between the lines.

import { writeSync } from 'node:fs';
import { openCatalog } from '../../src/catalog/open-catalog.ts';
import { currentOwner } from '../../src/control/owner.ts';
import { runJob } from '../../src/jobs/runner.ts';
import { systemClock } from '../../src/plumbing/clock.ts';

const catalog = await openCatalog({ url: `sqlite:${process.argv[2]}`, clock: systemClock });
const dependencies = { catalog, clock: systemClock, owner: await currentOwner(catalog) };
await runJob(dependencies, { jobType: 'test', operation: 'load' }, {}, async ({ jobId, logger, step, progress }) => {
  writeSync(1, `job ${jobId}\n`);
  for (let line = 0; ; line += 1) {
    logger.log('info', `line ${line}`);
    writeSync(1, `line ${line}\n`);
    progress('load', line % 100, 100);
    if (line % 10 === 0) {
      await step(`step ${line}`, async () => undefined);
      writeSync(1, `step ${line}\n`);
    }
    const until = performance.now() + 2;
    while (performance.now() < until);
  }
});
