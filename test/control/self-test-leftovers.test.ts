// What a killed self-test of a place has left goes with the next claim; the files of one that may be running stay.

import { mkdirSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { currentOwner } from '../../src/control/owner.ts';
import { removeSelfTestLeftovers, selfTestName } from '../../src/control/self-test-leftovers.ts';
import { systemClock } from '../../src/plumbing/clock.ts';
import { openStore } from '../../src/store/registry.ts';
import { SELF_TEST_PREFIX } from '../../src/store/self-test-prefix.ts';
import { openScratch, scratchFolder } from '../catalog/scratch-catalog.ts';

it('removes those of dead processes and of long ago, and nothing else', async () => {
  const { catalog } = await openScratch();
  const owner = await currentOwner(catalog);
  const place = await scratchFolder();
  const leave = (name: string, hoursAgo = 0): string => {
    const folder = `${SELF_TEST_PREFIX}${name}`;
    mkdirSync(join(place, folder, 'b'), { recursive: true });
    const time = new Date(Date.now() - hoursAgo * 3600_000);
    for (const file of ['a', 'b/c', 'd.tmp-0123456789ab']) {
      writeFileSync(join(place, folder, file), 'x');
      utimesSync(join(place, folder, file), time, time);
    }
    return folder;
  };
  const dead = { ...owner, pid: 2 ** 22, process_started: 1 };
  const gone = [leave(selfTestName(dead)), leave(selfTestName({ ...dead, hostname: 'other' }), 25), leave('0123456789ab', 25)];
  const stay = [leave(selfTestName(owner)), leave(selfTestName({ ...dead, hostname: 'other' }), 23), leave('0123456789ac', 23)];
  writeFileSync(join(place, 'mine'), 'x');
  const store = await openStore('local', { path: place }, { create: false });
  await removeSelfTestLeftovers(store, owner, systemClock);
  await store.close();
  const left = readdirSync(place);
  expect(left.toSorted()).toEqual([...stay, 'mine'].toSorted());
  for (const folder of stay) expect(readdirSync(join(place, folder)).toSorted()).toEqual(['a', 'b', 'd.tmp-0123456789ab']);
  expect(gone.some((folder) => left.includes(folder))).toBe(false);
});
