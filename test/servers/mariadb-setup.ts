// One server for all tests that run on MariaDB: started before the first, stopped after the last.

import type { TestProject } from 'vitest/node';
import { givenMariadb, type MariadbAddress, startMariadb } from './mariadb.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    mariadb: MariadbAddress;
  }
}

export async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  const given = givenMariadb();
  if (given) {
    project.provide('mariadb', given);
    return undefined;
  }
  const server = await startMariadb();
  project.provide('mariadb', server.address);
  return server.stop;
}
