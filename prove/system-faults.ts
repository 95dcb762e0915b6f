// Campaign "system-faults": the whole program through the launcher, each system call of a backup, verify, restore and delete failing in turn
// (strace), once and for good; reads and writes that do only a part; files that may not grow. Store operations in process: campaign "faults".

import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Campaign, Trial } from './campaign.ts';
import { attempt } from './judge.ts';
import { withMemoryFolder } from './memory-folder.ts';
import { attack, type Fault, findFaults } from './system-faults/inject.ts';
import { judgeRun } from './system-faults/judge-run.ts';
import { ACTIONS, type Action, type Story, tellStory } from './system-faults/story.ts';
import { type Ended, LAUNCHER, start } from './user.ts';

const SHORT_IO = fileURLToPath(new URL('./system-faults/short-io.ts', import.meta.url));
const FAIL_SYNC = fileURLToPath(new URL('./system-faults/fail-sync.ts', import.meta.url));
/** More than any of the commands does; those that a run does not come to are left out of it. */
const SYNCS = [1, 2, 3, 4, 5, 6, 7, 8];
const SHORT = ['half', '1000', '4095'] as const;
/** Bytes that no file may pass: a write that crosses the limit is short, the next one fails. The database is smaller than all of them. */
const LIMITS = [600_000, 650_001, 700_777];

interface Case {
  readonly action: Action;
  readonly what: string;
  run(story: Story): Promise<readonly string[]>;
}

export const systemFaults: Campaign = {
  name: 'system-faults',
  about:
    'system calls of the whole program fail one by one: never a false success, a clear error, nothing earlier lost, the next run is good',
  small: 8,
  large: 400,
  run: (trial) => withMemoryFolder((folder) => runCases(trial, folder)),
};

async function runCases(trial: Trial, folder: string): Promise<void> {
  const story = await tellStory(folder, trial.random(0));
  const cases = await findCases(folder, story);
  trial.note(`${cases.length} faults are possible in ${ACTIONS.length} commands`);
  for (const number of trial.cases(cases.length)) {
    const chosen = cases[number];
    if (!chosen) throw new RangeError(`there are ${cases.length} faults, none is number ${number}`);
    const found = await attempt('unexpected', () => chosen.run(story));
    trial.ran(
      number,
      found.map((fault) => `${chosen.action}, ${chosen.what}: ${fault}`),
    );
  }
}

async function findCases(folder: string, story: Story): Promise<Case[]> {
  const cases: Case[] = [];
  const trace = join(folder, 'trace');
  for (const action of ACTIONS) {
    const args = story.begin(action);
    const files = story.files(action);
    const faults = await findFaults(story.user, args, files, () => story.begin(action), trace);
    cases.push(...faults.map((fault) => straceCase(action, fault, trace)));
    if (action !== 'verify') cases.push(...SYNCS.map((nth) => syncCase(action, nth, join(folder, 'hit'))));
    cases.push(...SHORT.map((short) => shortCase(action, short)));
    cases.push(...LIMITS.map((limit) => limitCase(action, limit)));
  }
  return cases;
}

function straceCase(action: Action, fault: Fault, trace: string): Case {
  const where = fault.on === undefined ? '' : ` on ${fault.on}`;
  return {
    action,
    what: `${fault.call}${where} number ${fault.nth}${fault.sticky ? ' and later' : ''} fails with ${fault.error}`,
    run: async (story) => {
      const args = story.begin(action);
      const { ended, injected } = await attack(story.user, args, fault, story.files(action), trace);
      return judgeRun(story, action, { ended, injected });
    },
  };
}

/** A second fsync of the same file would succeed, and its bytes are lost all the same. */
function syncCase(action: Action, nth: number, hit: string): Case {
  return {
    action,
    what: `fsync number ${nth} of its own files fails with EIO`,
    run: async (story) => {
      rmSync(hit, { force: true });
      const env = { NODE_OPTIONS: `--import=${FAIL_SYNC}`, CHAINKEEP_PROVE_FAIL_SYNC: String(nth), CHAINKEEP_PROVE_HIT: hit };
      const ended = await runWith(story, story.begin(action), [], env);
      const wasHit = existsSync(hit);
      const said = wasHit && ended.code === 0 ? ['ended well though an fsync had failed'] : [];
      return [...said, ...(await judgeRun(story, action, { ended, injected: [], harmless: !wasHit }))];
    },
  };
}

/** Nothing fails: a program that takes a short read or write for a whole one would end with other content. */
function shortCase(action: Action, short: string): Case {
  return {
    action,
    what: `reads and writes do only a part (${short})`,
    run: async (story) => {
      const env = { NODE_OPTIONS: `--import=${SHORT_IO}`, CHAINKEEP_PROVE_SHORT: short };
      const ended = await runWith(story, story.begin(action), [], env);
      const said = ended.code === 0 ? [] : [`ended with ${ended.code ?? ended.signal}: ${ended.stderr}`];
      return [...said, ...(await judgeRun(story, action, { ended, injected: [] }))];
    },
  };
}

function limitCase(action: Action, limit: number): Case {
  return {
    action,
    what: `no file may grow past ${limit} bytes`,
    run: async (story) => {
      const ended = await runWith(story, story.begin(action), ['prlimit', `--fsize=${limit}`], {});
      return judgeRun(story, action, { ended, injected: [], harmless: false });
    },
  };
}

function runWith({ user }: Story, args: readonly string[], before: readonly string[], env: NodeJS.ProcessEnv): Promise<Ended> {
  return start([...before, LAUNCHER, ...args], { env: { ...user.env, ...env } }).ended;
}
