// Holds the lease of disk 0 of vm-1 in repo-1 of the database in its argument (a URL; password: PASSWORD) until it is told to look ("look\n" on its input),
// then prints what its guard says and ends. Prints "held" first.

import { once } from 'node:events';
import { openCatalog } from '../../src/catalog/open-catalog.ts';
import { withLease } from '../../src/control/lease.ts';
import { currentOwner } from '../../src/control/owner.ts';
import { systemClock } from '../../src/plumbing/clock.ts';
import { isChainkeepError } from '../../src/plumbing/errors.ts';
import { silentLogger } from '../../src/plumbing/logger.ts';

const catalog = await openCatalog({ url: process.argv[2] ?? '', password: process.env.PASSWORD, clock: systemClock });
const wanted = {
  repositoryId: 'repo-1',
  vmContextId: 'vm-1',
  diskId: 0,
  jobId: 'job-of-child',
  owner: await currentOwner(catalog),
  logger: silentLogger,
  heartbeat: Number(process.argv[3]),
  expiry: Number(process.argv[4]),
};
await withLease(catalog, wanted, async (guard) => {
  process.stdout.write('held\n');
  await once(process.stdin, 'data');
  const asserted = await guard.assertHeld().then(
    () => 'held',
    (error: unknown) => (isChainkeepError(error) ? error.code : String(error)),
  );
  // A stopped process gets its overdue heartbeat after it goes on.
  await new Promise((resolve) => setTimeout(resolve, Number(process.argv[3]) * 2));
  const reason: unknown = guard.signal.reason;
  process.stdout.write(`${asserted} ${isChainkeepError(reason) ? reason.code : guard.signal.aborted}\n`);
});
await catalog.close();
process.stdin.unref();
