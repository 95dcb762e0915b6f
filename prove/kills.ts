// SIGKILL of the whole process group: at every point of a reference story at which something becomes durable or gets another name, before and after
// the call, and at random moments of backup, verify, restore and delete. After each, prove/kills/after-kill.ts says what must hold.

import type { Campaign, Trial } from './campaign.ts';
import { type Before, judgeKill, lookBefore } from './kills/after-kill.ts';
import { judgeTarget, KINDS, type Kind, killAtMoment, momentStep } from './kills/moments.ts';
import { killAtPoint, type Point, type Side } from './kills/points.ts';
import { type Step, Story } from './kills/story.ts';

export const kills: Campaign = {
  name: 'kills',
  about:
    'SIGKILL at every fsync, rename, link, unlink and database commit, and at random moments; nothing completed is lost, the next run works',
  small: 8,
  large: 300,
  run: async (trial) => {
    const story = new Story(trial.folder);
    await story.tell(trial.random(0));
    const attacks = pointAttacks(story);
    const figures = { atPoints: 0, atMoments: 0, inTime: 0 };
    const usual = new Map<Kind, number>();
    // The points first, then as many random moments, or what was asked for beyond the points.
    for (const number of trial.cases(Math.max(2 * attacks.length, trial.count))) {
      const attack = attacks[number];
      const faults = attack ? await killedAtPoint(story, attack, figures) : await killedAtMoment(story, { trial, number, usual }, figures);
      trial.ran(number, faults);
    }
    const steps = story.steps.map(({ name, points }) => `${name} ${points.length}`).join(', ');
    trial.note(`${attacks.length / 2} points, each before and after the call: ${steps}`);
    trial.note(
      `${figures.atPoints} kills at points, ${figures.atMoments} at random moments; ${figures.inTime} came before the command had ended`,
    );
  },
};

interface Attack {
  readonly step: Step;
  readonly point: Point;
  readonly side: Side;
}

function pointAttacks(story: Story): readonly Attack[] {
  const sides: readonly Side[] = ['before', 'after'];
  return sides.flatMap((side) => story.steps.flatMap((step) => step.points.map((point) => ({ step, point, side }))));
}

interface Figures {
  atPoints: number;
  atMoments: number;
  inTime: number;
}

async function killedAtPoint(story: Story, { step, point, side }: Attack, figures: Figures): Promise<readonly string[]> {
  const before = begin(story, step);
  const { ended, reached } = await killAtPoint(story.user, step.args, point, side);
  figures.atPoints += 1;
  figures.inTime += ended.signal === 'SIGKILL' ? 1 : 0;
  const where = `${step.name}, killed ${side} ${point.call} number ${point.nth} of the ${point.thread} thread`;
  const failed = ended.code === 0 || ended.signal === 'SIGKILL' ? [] : [`ended with ${ended.code ?? ended.signal}: ${ended.stderr}`];
  const missed = reached ? [] : ['the run never came to the point'];
  const faults = [...failed, ...missed, ...(await judgeKill(story, step, before, ended.code === 0))];
  return faults.map((fault) => `${where}: ${fault}`);
}

interface MomentCase {
  readonly trial: Trial;
  readonly number: number;
  /** Milliseconds that each kind of command takes here; grows as they are measured. */
  readonly usual: Map<Kind, number>;
}

async function killedAtMoment(story: Story, { trial, number, usual }: MomentCase, figures: Figures): Promise<readonly string[]> {
  const random = trial.random(number + 1);
  const kind = random.pick(KINDS);
  const step = momentStep(story, kind, random);
  if (!usual.has(kind)) {
    begin(story, step);
    usual.set(kind, (await killAtMoment(story, step, random, undefined)).milliseconds);
  }
  const before = begin(story, step);
  const { faults, ended } = await killAtMoment(story, step, random, usual.get(kind));
  figures.atMoments += 1;
  figures.inTime += ended ? 0 : 1;
  const after = [...faults, ...(await judgeKill(story, step, before, ended)), ...judgeTarget(story, step, ended)];
  return after.map((fault) => `${step.name}, killed at a random moment: ${fault}`);
}

function begin(story: Story, step: Step): Before {
  story.putBack(step.state);
  return lookBefore(story, step);
}
