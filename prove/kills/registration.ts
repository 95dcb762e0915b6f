// What must hold after a registration of a repository was killed: the same command works, or the repository is there; a backup goes into it, and the
// place holds nothing but the repository. It is taken out of the catalog again, for the judges that follow.

import { globSync } from 'node:fs';
import { dirname } from 'node:path';
import type { App } from '../../src/app-interface.ts';
import { isChainkeepError } from '../../src/plumbing/errors.ts';
import { backupOf } from './story.ts';

const NAME = 'second';
const MARKER = 'chainkeep-repository.json';

/** `ended`: the command was not killed. */
export async function judgeRegistration(app: App, path: string, disk: string, ended: boolean): Promise<readonly string[]> {
  const faults = ended ? await judgeThere(app) : [];
  await addAgain(app, path);
  const rows = (await app.listRepositories()).filter(({ name }) => name === NAME);
  if (rows.length !== 1) return [...faults, `${rows.length} repositories are called ${NAME}`];
  const files = globSync('**/{*,.*}', { cwd: dirname(path), withFileTypes: true }).filter((entry) => !entry.isDirectory());
  faults.push(...files.filter(({ name }) => name !== MARKER).map(({ name }) => `${name} was left in the new repository`));
  const [made] = await app.backup({ ...backupOf(disk), repository: NAME }, {});
  const { checked, damaged } = await app.verify({ repository: NAME, quick: false }, {});
  if (!made || checked !== 1 || damaged.length > 0) faults.push(`the new repository has ${checked} backups, ${damaged.length} damaged`);
  await app.removeRepository(NAME, { forget: true });
  return faults;
}

async function judgeThere(app: App): Promise<string[]> {
  const names = (await app.listRepositories()).map(({ name }) => name);
  return names.includes(NAME) ? [] : ['repo add ended well, and the repository is not in the catalog'];
}

/** Throws when it is refused for any reason but that it is there already. */
async function addAgain(app: App, path: string): Promise<void> {
  try {
    await app.addRepository({ name: NAME, type: 'local', config: { path }, take_over: false });
  } catch (error) {
    const names = (await app.listRepositories()).map(({ name }) => name);
    if (!isChainkeepError(error, 'REPOSITORY_EXISTS') || !names.includes(NAME)) throw error;
  }
}
