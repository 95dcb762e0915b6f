// A delete that is held up between its last look at the lease and its first unlink, until its lease has ended: what others built meanwhile stays.

import { writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { listLeases, releaseLease } from '../../src/catalog/leases.ts';
import { openCatalog } from '../../src/catalog/open-catalog.ts';
import { systemClock } from '../../src/plumbing/clock.ts';
import { noise, scratchHome } from './scratch-home.ts';

it('takes nothing away from a backup that was made after its lease had ended', async () => {
  const user = scratchHome();
  const disk = user.path('disk.img');
  writeFileSync(disk, noise(1 << 20, 1));
  const first = await user.backup(disk, 'vm');
  const { backup_id: deleted } = await user.backup(disk, 'vm');
  const delay = ['-f', '-qq', '-o', user.path('trace'), '-e', 'trace=unlink', '-e', 'inject=unlink:delay_enter=6000000:when=1'];
  // 'strace' holds the first unlink, that of the sidecar.
  const late = user.traced(delay, ['delete', deleted, '--json']);
  const catalog = await openCatalog({ url: `sqlite:${user.path('home/catalog.sqlite')}`, clock: systemClock });
  const begun = async (): Promise<boolean> => (await user.jobs('--status', 'running')).some((job) => job.metadata.delete_begun === true);
  while (!(await begun()));
  for (const lease of await listLeases(catalog)) await releaseLease(catalog, lease.id);
  await catalog.close();
  expect(await user.backup(disk, 'vm')).toMatchObject({ backup_type: 'incremental', parent_backup_id: first.backup_id });
  expect((await late).code).toBe(0);
  await user.verifyAll();
  expect((await user.list()).length).toBe(2);
});
