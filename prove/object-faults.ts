// Campaign "object-faults": every request of a story of backups in a bucket (full, incremental, verify, restore, delete) fails in every way once,
// or the server goes away at that request and comes back later. A proxy in front of a real server (S3, Azure) does it; nothing in the program knows of it.

import { FaultProxy, OBJECT_FAULTS, type ObjectFault } from '../test/servers/fault-proxy.ts';
import type { Campaign, Trial } from './campaign.ts';
import { attempt } from './judge.ts';
import { withMemoryFolder } from './memory-folder.ts';
import { ACTIONS, type Action, type BucketStory, tellBucketStory } from './object-faults/bucket-story.ts';
import { type ObjectServer, SERVERS } from './object-faults/places.ts';

/** Requests may be as many times those of an untouched run, by the issue of a failure; and a few of every run look whether a lost answer was ours. */
const MOST_TIMES = 3;

interface Case {
  readonly attacked: Attacked;
  readonly action: Action;
  /** Requests of the action when nothing fails. */
  readonly ideal: number;
  readonly at: number;
  readonly fault: ObjectFault | 'the server goes away';
}

export const objectFaults: Campaign = {
  name: 'object-faults',
  about: 'each request to an object store fails in every way: no backup lost, no false success, at most 3 times the requests',
  small: 6,
  large: 1500,
  run: (trial) => withMemoryFolder((folder) => withServers((servers) => runCases(trial, servers, folder))),
};

interface Attacked {
  readonly server: ObjectServer;
  readonly proxy: FaultProxy;
}

async function withServers(use: (servers: readonly Attacked[]) => Promise<void>): Promise<void> {
  await using opened = new AsyncDisposableStack();
  const servers: Attacked[] = [];
  for (const start of SERVERS) {
    const server = await start();
    opened.defer(() => server.stop());
    const proxy = await FaultProxy.open(server.upstream, server.errors);
    opened.defer(() => proxy.close());
    servers.push({ server, proxy });
  }
  await use(servers);
}

async function runCases(trial: Trial, servers: readonly Attacked[], folder: string): Promise<void> {
  const cases: Case[] = [];
  for (const attacked of servers) cases.push(...(await findCases(trial, attacked, folder)));
  for (const number of trial.cases(cases.length)) {
    const chosen = cases[number];
    if (!chosen) throw new RangeError(`there are ${cases.length} faults, none is number ${number}`);
    const { attacked, action, at, fault } = chosen;
    const faults = await attempt('unexpected', () => withStory(trial, number, attacked, folder, (story) => runCase(story, chosen)));
    trial.ran(
      number,
      faults.map((what) => `${attacked.server.name}, ${action}, request ${at} ${fault}: ${what}`),
    );
  }
}

async function findCases(trial: Trial, attacked: Attacked, folder: string): Promise<readonly Case[]> {
  const counts = await countRequests(trial, attacked, folder);
  const cases = ACTIONS.flatMap((action) => {
    const ideal = counts.get(action) ?? 0;
    const requests = Array.from({ length: ideal }, (_, index) => index + 1);
    const faults = [...OBJECT_FAULTS, 'the server goes away' as const];
    return requests.flatMap((at) => faults.map((fault): Case => ({ attacked, action, ideal, at, fault })));
  });
  const shown = ACTIONS.map((action) => `${action} ${counts.get(action)} requests`).join(', ');
  trial.note(`${attacked.server.name}: ${cases.length} faults are possible: ${shown}`);
  return cases;
}

async function countRequests(trial: Trial, attacked: Attacked, folder: string): Promise<ReadonlyMap<Action, number>> {
  const counts = new Map<Action, number>();
  const faults = await withStory(trial, -1, attacked, folder, async (story) => {
    for (const action of ACTIONS) {
      attacked.proxy.begin();
      await story.run(action);
      counts.set(action, attacked.proxy.requests.length);
    }
    return story.judge();
  });
  if (faults.length > 0) throw new Error(`an untouched story is not good: ${faults.join('; ')}`);
  return counts;
}

async function withStory(
  trial: Trial,
  number: number,
  { server, proxy }: Attacked,
  folder: string,
  use: (story: BucketStory) => Promise<readonly string[]>,
): Promise<readonly string[]> {
  proxy.begin();
  const place = await server.makePlace(proxy.endpoint);
  const story = await tellBucketStory({ folder, place, random: trial.random(number + 1) });
  try {
    return await use(story);
  } finally {
    await story.close();
  }
}

/** The actions before the chosen one are untouched, and so are those after it. */
async function runCase(story: BucketStory, { attacked: { proxy }, action: chosen, ideal, at, fault }: Case): Promise<readonly string[]> {
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
