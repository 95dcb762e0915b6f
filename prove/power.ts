// Power loss: the real program tells a story under strace, and every state that a disk may be left in at any moment of it is opened.
// strace, and not a library between program and kernel: it sees what really reached the kernel, in its order, of all threads, and of
// SQLite as well. States are made and judged in this process; every 150th also by the whole program, as a user would meet it.

import { join } from 'node:path';
import type { Campaign, Trial } from './campaign.ts';
import { withMemoryFolder } from './memory-folder.ts';
import { type Crash, CrashStates, type DiskState, drawCrash } from './power/crash-state.ts';
import { catalogKey, type JudgedCatalog, judgeCatalog } from './power/judge-catalog.ts';
import { type Duties, judgeByProgram } from './power/judge-program.ts';
import { type JudgedRepository, judgeRepository } from './power/judge-repository.ts';
import { REPOSITORY, type Story, tellStory } from './power/story.ts';

// Cases in the middle of each hundred and fifty.
const BY_PROGRAM = 150;

export const power: Campaign = {
  name: 'power',
  about: 'power loss at any moment: what was acknowledged is there bit for bit, everything else is whole or absent, the next backup works',
  // Draws. At first half of them are states not seen before, after many a third: 80 000 make more than 20 000 states.
  small: 200,
  large: 80_000,
  run: (trial) =>
    withMemoryFolder(async (folder) => {
      const story = await tellStory(folder, trial.seed);
      await judgeStory(trial, story, folder);
    }),
};

/** Apart from the telling, so that a story that was spoilt can be judged too. */
export async function judgeStory(trial: Trial, story: Story, folder: string): Promise<void> {
  const states = new CrashStates(story.recording);
  const judge = new Judge(story, join(folder, 'state'));
  const seen = new Set<string>();
  const cuts = cutsOf(story);
  for (const number of trial.cases()) {
    const random = trial.random(number);
    const crash = drawCrash(cuts, random);
    const state = states.make(crash, random);
    const duties = dutiesAt(story, crash.cut);
    const key = `${keyOf(state)} ${duties.must.join()} ${duties.never.join()}`;
    if (seen.has(key)) continue;
    seen.add(key);
    const faults = await judge.judge(state, duties, crash, number % BY_PROGRAM === BY_PROGRAM / 2);
    trial.ran(
      number,
      faults.map((fault) => `${fault} (${describe(crash, story)})`),
    );
  }
  trial.note(`${story.recording.operations.length} recorded operations; ${judge.figures()}`);
}

/**
 * Any cut; behind each operation on the repository, of which there are fewer than on the catalog; before each sync of the one and of the
 * other, when most is at stake.
 */
function cutsOf({ recording: { operations } }: Story): number[][] {
  const ofCatalog = new Set<number>();
  for (const operation of operations)
    if (operation.kind === 'name' && operation.node !== null && operation.name.startsWith('catalog.')) ofCatalog.add(operation.node);
  const cuts: [number[], number[], number[], number[]] = [[0], [], [], []];
  for (const [number, operation] of operations.entries()) {
    cuts[0].push(number + 1);
    if (operation.kind === 'name' || operation.kind === 'move' || !ofCatalog.has(operation.node)) cuts[1].push(number + 1);
    if (operation.kind === 'sync') cuts[ofCatalog.has(operation.node) ? 2 : 3].push(number);
  }
  return cuts;
}

function dutiesAt({ backups, deleted }: Story, cut: number): Duties {
  const must = backups.filter(({ id, acknowledged }) => cut >= acknowledged && (id !== deleted.id || cut <= deleted.begins));
  return { must: must.map(({ id }) => id), never: cut >= deleted.acknowledged ? [deleted.id] : [] };
}

function keyOf(state: DiskState): string {
  return [...state.folders, ...[...state.files].map(([path, { hash }]) => `${path}=${hash}`)].join(' ');
}

function describe({ cut, data, names, luck }: Crash, { recording, backups }: Story): string {
  const done = backups.filter(({ acknowledged }) => cut >= acknowledged).length;
  return `after ${cut} of ${recording.operations.length} operations, ${done} backups done, lost data: ${data}, names: ${names}, luck ${luck}`;
}

class Judge {
  readonly #story: Story;
  readonly #folder: string;
  /** Judgements by content: only the cuts differ in what must be there. */
  readonly #repositories = new Map<string, JudgedRepository>();
  readonly #catalogs = new Map<string, JudgedCatalog>();
  #programs = 0;

  constructor(story: Story, folder: string) {
    this.#story = story;
    this.#folder = folder;
  }

  figures(): string {
    return `${this.#repositories.size} different repositories, ${this.#catalogs.size} different catalogs, ${this.#programs} by the whole program`;
  }

  async judge(state: DiskState, duties: Duties, crash: Crash, byProgram: boolean): Promise<string[]> {
    try {
      const repository = await this.#repository(state);
      const catalog = await this.#catalog(state);
      const faults = [...repository.faults, ...catalog.faults, ...compare(this.#story, duties, crash, repository, catalog)];
      if (!byProgram) return faults;
      this.#programs += 1;
      return [...faults, ...(await judgeByProgram(this.#story, state, duties))];
    } catch (error) {
      return [error instanceof Error ? (error.stack ?? error.message) : String(error)];
    }
  }

  async #repository(state: DiskState): Promise<JudgedRepository> {
    const part = `${REPOSITORY}/`;
    const key = keyOf({ folders: state.folders, files: new Map([...state.files].filter(([path]) => path.startsWith(part))) });
    const known = this.#repositories.get(key);
    if (known) return known;
    const judged = await judgeRepository(this.#story, state, part, this.#folder);
    this.#repositories.set(key, judged);
    return judged;
  }

  async #catalog(state: DiskState): Promise<JudgedCatalog> {
    const key = catalogKey(state);
    const known = this.#catalogs.get(key);
    if (known) return known;
    const judged = await judgeCatalog(state, this.#folder);
    this.#catalogs.set(key, judged);
    return judged;
  }
}

/** What was said must hold: by the program to its user, and by the catalog to the program. */
function compare(story: Story, duties: Duties, { cut }: Crash, repository: JudgedRepository, catalog: JudgedCatalog): string[] {
  const faults: string[] = [];
  for (const id of duties.must) {
    if (!repository.committed.includes(id)) faults.push(`the acknowledged backup ${id} is gone`);
    if (catalog.backups.get(id) !== 'completed')
      faults.push(`the catalog calls the acknowledged backup ${id} ${catalog.backups.get(id) ?? 'unknown'}`);
  }
  for (const id of duties.never) {
    if (repository.committed.includes(id)) faults.push(`the deleted backup ${id} is back`);
    if (catalog.backups.has(id)) faults.push(`the catalog knows the deleted backup ${id}`);
  }
  for (const [id, status] of catalog.backups) {
    const deleting = id === story.deleted.id && cut > story.deleted.begins;
    if (status === 'completed' && !deleting && !repository.committed.includes(id))
      faults.push(`the catalog calls ${id} completed, and it is not there`);
  }
  if (repository.owner !== undefined && repository.owner !== catalog.installation)
    faults.push('the repository belongs to an installation that the catalog has forgotten');
  return faults;
}
