// A program of one long job, for interruption.test.ts: it says "working", waits for the abort signal, and then takes its time to clean up.

import { setTimeout as sleep } from 'node:timers/promises';
import { reportError } from '../../src/cli/report-error.ts';
import { withWatch } from '../../src/cli/with-app.ts';
import { throwIfCancelled } from '../../src/plumbing/errors.ts';

const context = { home: '/nowhere', databaseUrl: undefined, json: true, quiet: false };

try {
  await withWatch(context, async ({ signal }) => {
    process.stderr.write('working\n');
    while (!signal?.aborted) await sleep(10);
    await sleep(Number(process.argv[2]));
    process.stderr.write('cleaned up\n');
    throwIfCancelled(signal);
  });
} catch (error) {
  process.exitCode = reportError(error, context.json);
}
