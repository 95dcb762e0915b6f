// Campaign "database-faults": the database server fails at each statement of a backup: it dies, it is cut off, its disk is full, a lock is not
// to be had. After each the backup is whole or absent, in the catalog as in the repository, and the next run works by itself.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Campaign, Trial } from './campaign.ts';
import { DATABASE_FAULTS, type DatabaseFault, DatabaseProxy } from './database-faults/proxy.ts';
import { judge, MortalServer, type Scene, setScene } from './database-faults/scene.ts';
import { attempt } from './judge.ts';
import { withMemoryFolder } from './memory-folder.ts';
import { type Ended, LAUNCHER, start } from './user.ts';

export const databaseFaults: Campaign = {
  name: 'database-faults',
  about: 'the database server dies, is cut off, full or locked at each statement of a backup: no half state, the next run is good',
  small: 5,
  large: 2000,
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

async function runCases(trial: Trial, server: MortalServer, folder: string): Promise<void> {
  const { statements } = await backUpThroughProxy(await setScene(server, folder, trial.random(0)), undefined);
  const total = statements * DATABASE_FAULTS.length;
  trial.note(`${statements} statements in a backup, ${DATABASE_FAULTS.length} faults at each`);
  let met = 0;
  for (const number of trial.cases(total)) {
    // Neighbours are other faults, so that a few cases spread over all of them.
    const fault = DATABASE_FAULTS[number % DATABASE_FAULTS.length] ?? 'cut';
    const at = Math.floor(number / DATABASE_FAULTS.length) + 1;
    const faults = await attempt('unexpected', async () => {
      const scene = await setScene(server, folder, trial.random(number + 1));
      const { ended, statements: came } = await backUpThroughProxy(scene, { fault, at });
      met += came >= at ? 1 : 0;
      await server.startAgain();
      return judge(scene, ended);
    });
    await server.startAgain();
    trial.ran(
      number,
      faults.map((text) => `${fault} at statement ${at}: ${text}`),
    );
  }
  trial.note(`${met} times the fault was met`);
}

async function backUpThroughProxy(
  scene: Scene,
  attack: { readonly fault: DatabaseFault; readonly at: number } | undefined,
): Promise<{ readonly ended: Ended; readonly statements: number }> {
  const { server, database, user, source } = scene;
  const proxy = await DatabaseProxy.open(server.port, attack, () => server.kill());
  try {
    const env = { ...user.env, CHAINKEEP_DATABASE_URL: server.url(database, proxy.port), CHAINKEEP_DATABASE_PASSWORD: server.password };
    const ended = await start([LAUNCHER, 'backup', source, '--vm', 'vm', '--json'], { env }).ended;
    if (!attack && ended.code !== 0) throw new Error(`an untouched backup ended with ${ended.code ?? ended.signal}: ${ended.stderr}`);
    return { ended, statements: proxy.statements };
  } finally {
    await proxy.close();
  }
}
