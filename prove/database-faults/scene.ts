// An installation on MariaDB with one backup, a server that can die and come back, and what must hold when it has.
// It must not know what was done to the server.

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createConnection } from 'mysql2/promise';
import { openApp } from '../../src/app.ts';
import type { App } from '../../src/app-interface.ts';
import { Secret } from '../../src/plumbing/secret.ts';
import { freePort } from '../../test/servers/free-port.ts';
import { type MariadbServer, startMariadb } from '../../test/servers/mariadb.ts';
import type { Random } from '../random.ts';
import { backUp } from '../system-faults/story.ts';
import { type Ended, User } from '../user.ts';
import { judgeAfterwards, judgeWords } from './judge-attacked.ts';

/** A server on a port of its own that keeps its data when it is killed. */
export class MortalServer {
  readonly #folder: string;
  readonly port: number;
  #server: MariadbServer;

  private constructor(folder: string, port: number, server: MariadbServer) {
    this.#folder = folder;
    this.port = port;
    this.#server = server;
  }

  static async start(folder: string): Promise<MortalServer> {
    const port = await freePort();
    return new MortalServer(folder, port, await startMariadb({ folder, port }));
  }

  get password(): string {
    return this.#server.address.password;
  }

  url(database: string, port = this.port): string {
    return this.#server.address.url.replace(`:${this.port}/`, `:${port}/${database}`);
  }

  async kill(): Promise<void> {
    const { child } = this.#server;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  }

  /** Nothing happens when it lives. */
  async startAgain(): Promise<void> {
    const { child } = this.#server;
    if (child.exitCode === null && child.signalCode === null) return;
    this.#server = await startMariadb({ folder: this.#folder, port: this.port });
  }

  async statement(text: string): Promise<void> {
    const { username, hostname } = new URL(this.#server.address.url);
    const connection = await createConnection({ host: hostname, port: this.port, user: username, password: this.password });
    try {
      await connection.query(text);
    } finally {
      await connection.end();
    }
  }

  stop(): Promise<void> {
    return this.#server.stop();
  }
}

export interface Scene {
  readonly server: MortalServer;
  readonly database: string;
  readonly user: User;
  readonly source: string;
  /** What each completed backup reads as, and what the source holds now. */
  readonly disks: ReadonlyMap<string, Buffer>;
  readonly next: Buffer;
}

/** A new database and a new home with one full backup; the source has changed since. */
export async function setScene(server: MortalServer, folder: string, random: Random): Promise<Scene> {
  const database = 'chainkeep';
  await server.statement(`drop database if exists ${database}`);
  await server.statement(`create database ${database}`);
  rmSync(folder, { recursive: true, force: true });
  const home = join(folder, 'home');
  const app = await open(server, database, home);
  const source = join(folder, 'disk.img');
  const first = Buffer.concat([random.bytes(300_000), Buffer.alloc(100_001, 'text ')]);
  writeFileSync(source, first);
  try {
    const id = await backUp(app, source, 'full');
    const next = Buffer.from(first);
    next.set(random.bytes(70_000), random.below(200_000));
    writeFileSync(source, next);
    return { server, database, user: new User(home), source, disks: new Map([[id, first]]), next };
  } finally {
    await app.close();
  }
}

export const COMMANDS = ['backup', 'delete'] as const;
export type Command = (typeof COMMANDS)[number];

export function argumentsOf({ source, disks }: Scene, command: Command): readonly string[] {
  const [only = ''] = disks.keys();
  return command === 'backup' ? ['backup', source, '--vm', 'vm'] : ['delete', only];
}

function open(server: MortalServer, database: string, home: string): Promise<App> {
  return openApp({ home, databaseUrl: server.url(database), databasePassword: new Secret(server.password) });
}

/** What the command said, and everything that must be true once the server is there again. */
export async function judge(scene: Scene, command: Command, ended: Ended): Promise<readonly string[]> {
  const { server, database, user, source, disks, next } = scene;
  const [only] = disks.keys();
  const expected = command === 'delete' ? { due: [], deletes: only } : { due: [...disks.keys()], deletes: undefined };
  const app = await open(server, database, user.home);
  try {
    return [...judgeWords(ended), ...(await judgeAfterwards(app, { home: user.home, source, disks, next, ...expected }, ended))];
  } finally {
    await app.close();
  }
}
