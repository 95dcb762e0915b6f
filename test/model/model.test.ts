// Random lives of small repositories, with crashes at every step, late writes of dead processes, readers in between, and damage.
// CHAINKEEP_MODEL_RUNS says how many, CHAINKEEP_MODEL_SEED where they begin. Needs nothing of the product.

import { describe, expect, test } from 'vitest';
import { HARD_STORIES, OLD_TROUBLES } from './hard-stories.ts';
import { ALL_RULES, RULES, without } from './rules.ts';
import { type Deed, type Event, tellStory } from './story.ts';
import { findFailure, makeStory } from './tell-stories.ts';

const runs = Number(process.env.CHAINKEEP_MODEL_RUNS ?? (process.env.CHAINKEEP_TEST_ALL ? 100_000 : 5_000));
const seed = Number(process.env.CHAINKEEP_MODEL_SEED ?? 1);

function happens(deed: Deed, values: Partial<Event> = {}): Event {
  return { deed, a: 0, b: 0, crash: -1, late: false, land: -1, pace: 0, ...values };
}

test(`${runs} random stories from seed ${seed} go well`, { timeout: 600_000 }, () => {
  const failure = findFailure(ALL_RULES, seed, runs);
  if (failure) expect.fail(`CHAINKEEP_MODEL_SEED=${failure.seed} CHAINKEEP_MODEL_RUNS=1, cut short:\n${failure.text}`);
});

test('the stories are full of what they are about', () => {
  const lines = Array.from({ length: 1_000 }, (_, index) => tellStory(makeStory(index), ALL_RULES, true)).flat();
  const count = (pattern: RegExp) => lines.filter((line) => pattern.test(line)).length;
  expect(count(/catalog: b\d+ has generation/)).toBeGreaterThan(500);
  expect(count(/= crashed/)).toBeGreaterThan(500);
  expect(count(/late step of a dead/)).toBeGreaterThan(100);
  expect(count(/^ {4}(changes|removes) /)).toBeGreaterThan(300);
  expect(count(/completed, recovered/)).toBeGreaterThan(20);
  expect(count(/slow reader of .*done/)).toBeGreaterThan(200);
  expect(count(/catalog: b\d+ is gone/)).toBeGreaterThan(100);
});

describe('without this rule something goes wrong:', () => {
  for (const rule of RULES) {
    test(rule, { timeout: 120_000 }, () => {
      const rules = without(rule);
      const hard = HARD_STORIES[rule];
      if (hard) {
        tellStory(hard, ALL_RULES);
        expect(() => tellStory(hard, rules)).toThrow();
      } else {
        expect(findFailure(rules, 1, 3_000)).toBeDefined();
      }
    });
  }
});

describe('trouble of old goes well:', () => {
  for (const { name, story } of OLD_TROUBLES) test(name, () => void tellStory(story, ALL_RULES));
});

test('a cluster that gets A, zeros and A again reads right at every point, merged or not', () => {
  const write = (b: number) => [happens('write', { b }), happens('backup')];
  const events = [...write(1), ...write(0), ...write(1), happens('merge', { a: 1 }), ...write(0), happens('merge', { a: 2 })];
  tellStory({ size: 3, events }, ALL_RULES);
});

test('a merge survives a crash at each of its steps, and its recovery one at each of its own', () => {
  const steps = 20;
  const start = [1, 2, 3, 0].flatMap((b) => [happens('write', { a: 2, b }), happens('backup')]);
  for (let length = 0; length < 3; length++) {
    for (let first = 0; first < steps; first++) {
      for (let second = 0; second < steps; second++) {
        const merge = happens('merge', { a: 3, b: length, crash: first, late: true });
        tellStory({ size: 7, events: [...start, merge, happens('recover', { crash: second, late: true })] }, ALL_RULES);
      }
    }
  }
});

test('differentials make a tree: a full with two children stays when one of them is merged', () => {
  const events = [
    ...[happens('write', { b: 1 }), happens('backup', { a: 4 }), happens('write', { b: 2 }), happens('backup')],
    ...[happens('write', { b: 3 }), happens('backup', { a: 3 }), happens('write', { a: 1, b: 1 }), happens('backup')],
    ...[happens('merge', { a: 1 }), happens('merge', { a: 3, b: 2 })],
  ];
  const told = tellStory({ size: 5, events }, ALL_RULES, true);
  expect(told.filter((line) => line.includes('= nothing to merge'))).toHaveLength(1);
  expect(told).toContain('    catalog: b4 has generation 6; gone: b3');
});
