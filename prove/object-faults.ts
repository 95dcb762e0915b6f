// Campaign "object-faults": every request of a story of backups in a bucket (full, incremental, verify, restore, delete) fails in every way once,
// or the server goes away at that request and comes back later. A proxy in front of a real S3 server does it; nothing in the program knows of it.

import { FaultProxy, OBJECT_FAULTS, type ObjectFault } from '../test/servers/fault-proxy.ts';
import { givenS3, type S3Address, startRgw } from '../test/servers/rgw.ts';
import type { Campaign, Trial } from './campaign.ts';
import { attempt } from './judge.ts';
import { withMemoryFolder } from './memory-folder.ts';
import { ACTIONS, type Action, type BucketStory, tellBucketStory } from './object-faults/bucket-story.ts';

/** Requests may be as many times those of an untouched run, by the issue of a failure; and a few of every run look whether a lost answer was ours. */
const MOST_TIMES = 3;

interface Case {
  readonly action: Action;
  readonly at: number;
  readonly fault: ObjectFault | 'the server goes away';
}

export const objectFaults: Campaign = {
  name: 'object-faults',
  about: 'each request to an object store fails in every way: no backup lost, no false success, at most 3 times the requests',
  small: 6,
  large: 1500,
  run: (trial) =>
    withServer((address) => withProxy(address, (proxy) => withMemoryFolder((folder) => runCases(trial, address, proxy, folder)))),
};

async function withServer(use: (address: S3Address) => Promise<void>): Promise<void> {
  const given = givenS3();
  if (given) return use(given);
  const server = await startRgw();
  try {
    await use(server.address);
  } finally {
    await server.stop();
  }
}

async function withProxy(address: S3Address, use: (proxy: FaultProxy) => Promise<void>): Promise<void> {
  const proxy = await FaultProxy.open(address.endpoint);
  try {
    await use(proxy);
  } finally {
    await proxy.close();
  }
}

async function runCases(trial: Trial, address: S3Address, proxy: FaultProxy, folder: string): Promise<void> {
  const ideal = await countRequests(trial, address, proxy, folder);
  const cases = ACTIONS.flatMap((action) =>
    Array.from({ length: ideal.get(action) ?? 0 }, (_, index) =>
      [...OBJECT_FAULTS, 'the server goes away' as const].map((fault): Case => ({ action, at: index + 1, fault })),
    ).flat(),
  );
  trial.note(`${cases.length} faults are possible: ${ACTIONS.map((action) => `${action} ${ideal.get(action)} requests`).join(', ')}`);
  for (const number of trial.cases(cases.length)) {
    const chosen = cases[number];
    if (!chosen) throw new RangeError(`there are ${cases.length} faults, none is number ${number}`);
    const faults = await attempt('unexpected', () =>
      withStory(trial, number, address, proxy, folder, (story) => runCase(story, proxy, chosen, ideal.get(chosen.action) ?? 0)),
    );
    trial.ran(
      number,
      faults.map((fault) => `${chosen.action}, request ${chosen.at} ${chosen.fault}: ${fault}`),
    );
  }
}

async function countRequests(trial: Trial, address: S3Address, proxy: FaultProxy, folder: string): Promise<ReadonlyMap<Action, number>> {
  const ideal = new Map<Action, number>();
  const faults = await withStory(trial, -1, address, proxy, folder, async (story) => {
    for (const action of ACTIONS) {
      proxy.begin();
      await story.run(action);
      ideal.set(action, proxy.requests.length);
    }
    return story.judge();
  });
  if (faults.length > 0) throw new Error(`an untouched story is not good: ${faults.join('; ')}`);
  return ideal;
}

async function withStory(
  trial: Trial,
  number: number,
  address: S3Address,
  proxy: FaultProxy,
  folder: string,
  use: (story: BucketStory) => Promise<readonly string[]>,
): Promise<readonly string[]> {
  proxy.begin();
  const story = await tellBucketStory({ folder, address, endpoint: proxy.endpoint, random: trial.random(number + 1) });
  try {
    return await use(story);
  } finally {
    await story.close();
  }
}

/** The actions before the chosen one are untouched, and so are those after it. */
async function runCase(
  story: BucketStory,
  proxy: FaultProxy,
  { action: chosen, at, fault }: Case,
  ideal: number,
): Promise<readonly string[]> {
  const faults: string[] = [];
  for (const action of ACTIONS) {
    if (action !== chosen) {
      await story.run(action);
    } else if (fault === 'the server goes away') {
      proxy.goAway(at);
      const error = await story.run(action).then(
        () => undefined,
        (reason: unknown) => reason,
      );
      proxy.begin();
      faults.push(...(await story.judgeFailure(action, error)));
      if (error !== undefined) await story.run(action);
    } else {
      proxy.begin({ fault, at });
      await story.run(action); // one fault is no reason to fail
      const count = proxy.requests.length;
      if (count > ideal * MOST_TIMES) faults.push(`${count} requests instead of ${ideal}`);
      proxy.begin();
    }
  }
  return [...faults, ...(await story.judge())];
}
