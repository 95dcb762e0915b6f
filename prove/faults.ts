// Campaign "faults": every operation of the store fails in turn, in every step of a reference story, once and for good, before it is
// done, after it was done (a lost answer) and half way. The whole program under faults of the system is campaign "system-faults".

import type { ErrorCode } from '../src/plumbing/errors.ts';
import { ChainkeepError } from '../src/plumbing/errors.ts';
import { type FaultPlan, faultyStore } from '../src/store/testing/faulty-store.ts';
import type { StoreOperation } from '../src/store/wrap/around-store.ts';
import type { Campaign, Trial } from './campaign.ts';
import { judgeStore, type StepOutcome } from './faults/judge-store.ts';
import { runStep, type Scene, STEPS, type Step, type StoreStory, tellStoreStory } from './faults/store-story.ts';
import { attempt } from './judge.ts';
import { withMemoryFolder } from './memory-folder.ts';

const WRITES: readonly StoreOperation[] = ['put', 'append', 'finish', 'delete', 'sweep', 'abort'];

/** As a local store says it. */
interface Trouble {
  readonly name: string;
  readonly reading: ErrorCode;
  readonly writing: ErrorCode;
  /** Operations that can meet it; default: all. */
  readonly operations?: readonly StoreOperation[];
  readonly effects: readonly NonNullable<FaultPlan['effect']>[];
}

const TROUBLES: readonly Trouble[] = [
  { name: 'EIO', reading: 'STORE_FAILED', writing: 'STORE_FAILED', effects: ['before', 'after', 'torn'] },
  {
    name: 'ENOSPC',
    reading: 'STORE_FAILED',
    writing: 'INSUFFICIENT_STORAGE',
    operations: ['put', 'append', 'finish'],
    effects: ['before', 'torn'],
  },
  { name: 'EACCES', reading: 'STORE_FAILED', writing: 'REPOSITORY_READ_ONLY', effects: ['before'] },
  { name: 'gone', reading: 'REPOSITORY_OFFLINE', writing: 'REPOSITORY_OFFLINE', effects: ['before'] },
];

interface Point {
  readonly step: Step;
  readonly trouble: Trouble;
  readonly plan: FaultPlan;
}

export const faults: Campaign = {
  name: 'faults',
  about: 'every operation of the store fails in every step of a story: never a false success, nothing earlier lost, the next run is good',
  small: 90,
  large: 6000,
  run: (trial) => withMemoryFolder((folder) => runPoints(trial, folder)),
};

async function runPoints(trial: Trial, folder: string): Promise<void> {
  const story = await tellStoreStory(folder, trial.random(0));
  const points = await findPoints(story);
  trial.note(`${points.length} faults are possible in ${STEPS.length} steps`);
  for (const number of trial.cases(points.length)) {
    const point = points[number];
    if (!point) throw new RangeError(`there are ${points.length} faults, none is number ${number}`);
    await runPoint(trial, number, point, story);
  }
}

async function runPoint(trial: Trial, number: number, { step, trouble, plan }: Point, story: StoreStory): Promise<void> {
  const scene = await story.before(step);
  const { operations, outcome } = await runFaulty(step, scene, plan, trouble);
  const { failAt, effect, sticky } = plan;
  const what = `${step.name}, ${trouble.name} ${effect} ${sticky ? 'for good from' : 'at'} ${operations[failAt - 1] ?? 'nothing'}`;
  trial.ran(
    number,
    (await attempt('the judge', () => judgeStore(step, scene, outcome))).map((fault) => `${what}: ${fault}`),
  );
}

async function runFaulty(
  step: Step,
  scene: Scene,
  plan: FaultPlan,
  trouble: Trouble,
): Promise<{ operations: readonly string[]; outcome: StepOutcome }> {
  const faulty = faultyStore(scene.test.store, plan);
  const told = (): Pick<StepOutcome, 'hit' | 'codes'> => ({
    hit: faulty.operations.length >= plan.failAt,
    codes: [trouble.reading, trouble.writing],
  });
  try {
    const claim = await runStep(step, scene, faulty.store);
    return { operations: faulty.operations, outcome: { claim, ...told() } };
  } catch (error) {
    return { operations: faulty.operations, outcome: { error, ...told() } };
  }
}

/** Runs each step untouched and counts what could fail in it. */
async function findPoints(story: StoreStory): Promise<Point[]> {
  const points: Point[] = [];
  for (const step of STEPS) {
    const scene = await story.before(step);
    const counting = faultyStore(scene.test.store, { failAt: Number.POSITIVE_INFINITY });
    await runStep(step, scene, counting.store);
    for (const trouble of TROUBLES) points.push(...pointsOf(step, trouble, counting.operations));
  }
  return points;
}

function pointsOf(step: Step, trouble: Trouble, all: readonly string[]): Point[] {
  const operations = trouble.operations;
  const total = operations ? all.filter((line) => operations.some((operation) => line.startsWith(`${operation} `))).length : all.length;
  const points: Point[] = [];
  for (const effect of trouble.effects) {
    for (const sticky of [false, true]) {
      const plan = { effect, sticky, ...(operations && { operations }), error: errorOf(trouble) };
      for (let failAt = 1; failAt <= total; failAt++) points.push({ step, trouble, plan: { ...plan, failAt } });
    }
  }
  return points;
}

function errorOf({ name, reading, writing }: Trouble): NonNullable<FaultPlan['error']> {
  return (operation, target) =>
    new ChainkeepError(WRITES.includes(operation) ? writing : reading, `injected ${name}: ${operation} ${target}`, {
      advice: 'it was injected',
    });
}
