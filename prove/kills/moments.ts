// Commands killed at a random moment: backup, verify, restore and delete, on the state of the whole story.
// It must not judge the repository: after-kill.ts does. What a restore has left at its target is judged here.

import { existsSync, globSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Random } from '../random.ts';
import { killGroup } from '../user.ts';
import type { Step, Story } from './story.ts';

export const KINDS = ['backup', 'verify', 'restore', 'delete'] as const;
export type Kind = (typeof KINDS)[number];

const PRECIOUS = Buffer.from('precious');
// Before this part of its time a command only starts up.
const STARTED = 0.4;

/** The command as a step of the story, which follows the differential. Throws when the story was not told. */
export function momentStep(story: Story, kind: Kind, random: Random): Step {
  const last = story.steps.at(-1);
  const base = last?.kept.at(-1);
  if (!last || !base) throw new Error('the story was not told');
  const { deletes: _, ...state } = last;
  const target = story.path(TARGET);
  if (kind === 'delete') return last;
  if (kind === 'verify') return { ...state, name: 'verify', args: ['verify', '--repo', 'default', '--quiet'] };
  if (kind === 'restore') return { ...state, name: 'restore', args: ['restore', random.pick(last.kept).id, target, '--force', '--quiet'] };
  const type = random.pick(['full', 'incremental', 'differential']);
  return { ...state, name: `${type} backup`, args: ['backup', story.large, '--vm', 'vm', '--type', type, '--quiet'], makes: story.large };
}

const TARGET = 'restored.img';

export interface Moment {
  readonly faults: readonly string[];
  /** The command had ended before its kill came. */
  readonly ended: boolean;
  readonly milliseconds: number;
}

/** Runs the command and kills its whole group; without `usual`, the milliseconds that it takes, it runs to its end. */
export async function killAtMoment(story: Story, step: Step, random: Random, usual: number | undefined): Promise<Moment> {
  const target = story.path(TARGET);
  const replaced = random.chance(0.5);
  rmSync(target, { force: true });
  if (replaced) writeFileSync(target, PRECIOUS);
  const moment = (usual ?? 0) * (STARTED + (1 - STARTED) * random.fraction());
  const began = performance.now();
  const { child, ended } = story.user.start(...step.args);
  if (usual !== undefined) {
    await Promise.race([sleep(moment), ended]);
    killGroup(child, 'SIGKILL');
  }
  const { code, signal, stderr } = await ended;
  const milliseconds = performance.now() - began;
  const faults = code === 0 || signal === 'SIGKILL' ? [] : [`${step.name} ended with ${code ?? signal}: ${stderr}`];
  return { faults, ended: code === 0, milliseconds };
}

/** The target is as it was, or the whole disk; nothing partial is beside it once the next command has cleaned up. */
export function judgeTarget(story: Story, step: Step, ended: boolean): readonly string[] {
  const target = story.path(TARGET);
  const partial = globSync(`.${TARGET}*`, { cwd: story.path('.') }).map((name) => `${name} was left beside the target of a restore`);
  const found = existsSync(target) ? readFileSync(target) : undefined;
  const disk = step.kept.find(({ id }) => step.args.includes(id))?.disk;
  if (step.name !== 'restore' || disk === undefined) return partial;
  const whole = found?.equals(readFileSync(disk)) ?? false;
  const untouched = found === undefined || found.equals(PRECIOUS);
  return whole || (untouched && !ended)
    ? partial
    : [...partial, `the target holds neither what it held nor the disk: ${found?.length} bytes`];
}
