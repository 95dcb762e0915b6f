// Campaign "database-faults": the database server fails at each statement of a backup and of a delete: it dies, it is cut off, its disk is full, a
// lock is not to be had. After each the backup is whole or absent, in the catalog as in the repository, and the next run works by itself.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Campaign, Trial } from './campaign.ts';
import { DATABASE_FAULTS, type DatabaseFault, DatabaseProxy } from './database-faults/proxy.ts';
import { argumentsOf, COMMANDS, type Command, judge, MortalServer, type Scene, setScene } from './database-faults/scene.ts';
import { attempt } from './judge.ts';
import { withMemoryFolder } from './memory-folder.ts';
import { type Ended, LAUNCHER, start } from './user.ts';

export const databaseFaults: Campaign = {
  name: 'database-faults',
  about:
    'the database server dies, is cut off, full or locked at each statement of a backup and a delete: no half state, the next run is good',
  small: 5,
  large: 3000,
  run: (trial) => withMemoryFolder((folder) => withServer(folder, (server) => runCases(trial, server, join(folder, 'scene')))),
};

async function withServer(folder: string, use: (server: MortalServer) => Promise<void>): Promise<void> {
  const data = join(folder, 'server');
  mkdirSync(data);
  const server = await MortalServer.start(data);
  try {
    await use(server);
  } finally {
    await server.kill();
  }
}

interface Case {
  readonly command: Command;
  readonly fault: DatabaseFault;
  readonly at: number;
}

async function runCases(trial: Trial, server: MortalServer, folder: string): Promise<void> {
  const cases: Case[] = [];
  for (const command of COMMANDS) {
    const { statements } = await runThroughProxy(await setScene(server, folder, trial.random(0)), command, undefined);
    trial.note(`${statements} statements in a ${command}, ${DATABASE_FAULTS.length} faults at each`);
    // Neighbours are other faults, so that a few cases spread over all of them.
    for (let at = 1; at <= statements; at++) cases.push(...DATABASE_FAULTS.map((fault) => ({ command, fault, at })));
  }
  let met = 0;
  for (const number of trial.cases(cases.length)) {
    const chosen = cases[number];
    if (!chosen) throw new RangeError(`there are ${cases.length} faults, none is number ${number}`);
    const { command, fault, at } = chosen;
    const faults = await attempt('unexpected', async () => {
      const scene = await setScene(server, folder, trial.random(number + 1));
      const { ended, statements } = await runThroughProxy(scene, command, { fault, at });
      met += statements >= at ? 1 : 0;
      await server.startAgain();
      return judge(scene, command, ended);
    });
    await server.startAgain();
    trial.ran(
      number,
      faults.map((text) => `${command}, ${fault} at statement ${at}: ${text}`),
    );
  }
  trial.note(`${met} times the fault was met`);
}

async function runThroughProxy(
  scene: Scene,
  command: Command,
  attack: { readonly fault: DatabaseFault; readonly at: number } | undefined,
): Promise<{ readonly ended: Ended; readonly statements: number }> {
  const { server, database, user } = scene;
  const proxy = await DatabaseProxy.open(server.port, attack, () => server.kill());
  try {
    const env = { ...user.env, CHAINKEEP_DATABASE_URL: server.url(database, proxy.port), CHAINKEEP_DATABASE_PASSWORD: server.password };
    const ended = await start([LAUNCHER, ...argumentsOf(scene, command), '--json'], { env }).ended;
    if (!attack && ended.code !== 0) throw new Error(`an untouched ${command} ended with ${ended.code ?? ended.signal}: ${ended.stderr}`);
    return { ended, statements: proxy.statements };
  } finally {
    await proxy.close();
  }
}
