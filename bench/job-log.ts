// The job log under load: 10 000 lines a second for ten seconds, on both databases where there is one. Prints count, lost lines and the time of a call.
// node bench/job-log.ts [DATABASE-URL] [LINES-A-SECOND] [SECONDS]; the password of a server comes from CHAINKEEP_DATABASE_PASSWORD.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { listLogEvents } from '../src/catalog/log-events.ts';
import { openCatalog } from '../src/catalog/open-catalog.ts';
import { currentOwner } from '../src/control/owner.ts';
import { runJob } from '../src/jobs/runner.ts';
import { systemClock } from '../src/plumbing/clock.ts';

const TICK_MS = 5;
const PAGE = 10_000;

const folder = mkdtempSync(join(tmpdir(), 'chainkeep-bench-'));
const [url = `sqlite:${join(folder, 'catalog.sqlite')}`, rate = '10000', seconds = '10'] = process.argv.slice(2);
const catalog = await openCatalog({ url, password: process.env.CHAINKEEP_DATABASE_PASSWORD, clock: systemClock });
try {
  const times: number[] = [];
  const steps: number[] = [];
  const { jobId } = await runJob(
    { catalog, clock: systemClock, owner: await currentOwner(catalog) },
    { jobType: 'bench', operation: 'log lines' },
    {},
    async ({ logger, step }) => {
      const wanted = Number(rate) * Number(seconds);
      const began = performance.now();
      for (let tick = 1; times.length < wanted; tick += 1) {
        const due = Math.min(wanted, Math.floor(((performance.now() - began) / 1000) * Number(rate)));
        while (times.length < due) {
          const at = performance.now();
          logger.log('info', `line ${times.length} of the load`, { cluster: times.length, range: 7 });
          times.push(performance.now() - at);
        }
        if (tick % 100 === 0) {
          const at = performance.now();
          await step(`step ${tick}`, async () => undefined);
          steps.push(performance.now() - at);
        }
        await wait(TICK_MS);
      }
      console.log(`${times.length} lines in ${((performance.now() - began) / 1000).toFixed(1)} s`);
    },
  );
  let count = 0;
  let after: { ts: string; id: number } | undefined;
  for (;;) {
    const page = await listLogEvents(catalog, jobId, { limit: PAGE, ...(after && { after }) });
    count += page.length;
    after = page.at(-1);
    if (page.length < PAGE) break;
  }
  const sorted = times.toSorted((a, b) => a - b);
  const at = (part: number): string => `${(sorted[Math.floor(sorted.length * part)] ?? 0).toFixed(3)} ms`;
  console.log(`count ${count}, lost ${times.length - count}`);
  console.log(`a log call: median ${at(0.5)}, p99 ${at(0.99)} (goal: under 20 ms), longest ${(sorted.at(-1) ?? 0).toFixed(1)} ms`);
  console.log(`a step (two durable changes): longest ${Math.max(0, ...steps).toFixed(1)} ms`);
} finally {
  await catalog.close();
  rmSync(folder, { recursive: true, force: true });
}
