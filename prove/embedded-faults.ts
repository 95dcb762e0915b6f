// Campaign "embedded-faults": the embedded database fails at each statement of a backup, a delete and a verify: another process has its lock, its disk
// is full, it takes no writes, it cannot be read, it is slow, the program dies. A database on a server: campaign "database-faults".

import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { mountTmpfs } from '../test/store/temporary-mount.ts';
import type { Campaign, Trial } from './campaign.ts';
import { judgeAfterwards, judgeWords } from './database-faults/judge-attacked.ts';
import { type EmbeddedFault, faultsAt, type Statement } from './embedded-faults/statement.ts';
import { COMMANDS, type Command, countStatements, type Story, tellStory } from './embedded-faults/story.ts';
import { attempt } from './judge.ts';
import { withMemoryFolder } from './memory-folder.ts';
import type { Ended } from './user.ts';

export const embeddedFaults: Campaign = {
  name: 'embedded-faults',
  about: 'the embedded database is locked, full, read-only, unreadable, slow, or the program dies, at each statement: no half state',
  small: 6,
  large: 2000,
  run: (trial) => withMemoryFolder((folder) => withDatabaseDisk(folder, trial, (databaseDisk) => runCases(trial, folder, databaseDisk))),
};

const DISK_SIZE = '8m';

/** A disk that holds nothing but the database can be full without the repository being so. Undefined where it cannot be had. */
async function withDatabaseDisk(folder: string, trial: Trial, use: (path: string | undefined) => Promise<void>): Promise<void> {
  const mount = mountTmpfs(`size=${DISK_SIZE}`);
  if (typeof mount === 'string') {
    trial.note(`${mount}: the disk of the database is not filled`);
    mkdirSync(join(folder, 'database'));
    return use(undefined);
  }
  try {
    await use(mount.path);
  } finally {
    mount.dispose();
  }
}

interface Case {
  readonly command: Command;
  readonly fault: EmbeddedFault;
  readonly at: number;
  readonly statement: Statement;
}

async function runCases(trial: Trial, folder: string, databaseDisk: string | undefined): Promise<void> {
  const story = await tellStory(folder, databaseDisk ?? join(folder, 'database'), trial.random(0));
  const cases: Case[] = [];
  for (const command of COMMANDS) {
    const statements = await countStatements(story, command);
    trial.note(`${statements.length} statements in a ${command}`);
    cases.push(...statements.flatMap((statement, index) => casesAt(command, statement, index + 1)));
  }
  const possible = databaseDisk === undefined ? cases.filter(({ fault }) => !fault.startsWith('full')) : cases;
  let tried = 0;
  let met = 0;
  for (const number of trial.cases(possible.length)) {
    const chosen = possible[number];
    if (!chosen) throw new RangeError(`there are ${possible.length} faults, none is number ${number}`);
    tried++;
    const found = await attempt('unexpected', async () => {
      const attacked = await attack(story, chosen);
      met += attacked.met ? 1 : 0;
      return attacked.faults;
    });
    const { command, fault, at, statement } = chosen;
    trial.ran(
      number,
      found.map((text) => `${command}, ${fault} at statement ${at} (${statement.text.slice(0, 60)}): ${text}`),
    );
  }
  // Where no fault ever lands, every case is good for nothing.
  if (tried > 1 && met === 0) throw new Error(`none of ${tried} faults was met`);
  trial.note(`${met} times the fault was met, of ${possible.length} that are possible`);
}

function casesAt(command: Command, statement: Statement, at: number): readonly Case[] {
  return faultsAt(statement).map((fault) => ({ command, fault, at, statement }));
}

async function attack(story: Story, { command, fault, at }: Case): Promise<{ readonly met: boolean; readonly faults: readonly string[] }> {
  const hit = `${story.home}.hit`;
  const filler = join(story.databaseFolder, 'catalog.sqlite.filler');
  rmSync(hit, { force: true });
  story.begin();
  const ended = await story.run(command, { strike: { fault, at, hit, filler } });
  const met = existsSync(hit);
  rmSync(filler, { force: true });
  const [full = '', incremental = ''] = story.disks.keys();
  const expected = command === 'delete' ? { due: [full], deletes: incremental } : { due: [full, incremental], deletes: undefined };
  const afterwards = await story.app((app) => judgeAfterwards(app, { ...story, ...expected }, ended));
  return { met, faults: [...judgeEnd(fault, met, ended), ...afterwards] };
}

/** A wait is no fault, and what was not met harms nobody. */
function judgeEnd(fault: EmbeddedFault, met: boolean, ended: Ended): readonly string[] {
  const said = `${ended.stderr.trim()} ${ended.stdout.trim()}`;
  if (met && fault.startsWith('killed')) return ended.signal === 'SIGKILL' ? [] : [`not killed, it ended with ${ended.code}: ${said}`];
  if (!met || fault === 'held' || fault === 'slow') return ended.code === 0 ? [] : [`ended with ${ended.code ?? ended.signal}: ${said}`];
  return [...judgeWords(ended), ...judgeAdvice(fault, ended)];
}

const ADVICE: Readonly<Partial<Record<EmbeddedFault, RegExp>>> = {
  locked: /try again/,
  'locked for good': /try again/,
  full: /make room/,
  'full for good': /make room/,
  'read-only': /cannot be written to/,
  unreadable: /reports errors/,
};

function judgeAdvice(fault: EmbeddedFault, { code, stdout, stderr }: Ended): readonly string[] {
  const fits = code === 0 || ADVICE[fault]?.test(String(JSON.parse(stdout).advice));
  return fits ? [] : [`the advice does not fit: ${stderr.trim()}`];
}
