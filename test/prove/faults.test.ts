// Store faults, in process: the campaign with its small count, and its judge, who must see what is wrong.

import { readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { judgeStore, type StepOutcome } from '../../prove/faults/judge-store.ts';
import { runStep, type Scene, STEPS, type Step, tellStoreStory } from '../../prove/faults/store-story.ts';
import { faults } from '../../prove/faults.ts';
import { Random } from '../../prove/random.ts';
import { scratchFolder } from '../repository/scratch-folder.ts';
import { expectAllGood } from './run-small.ts';

it('every operation of the store may fail', () => expectAllGood(faults));

it('the judge is silent when all is well, and speaks when it is not', async () => {
  const folder = scratchFolder()('.');
  const story = await tellStoreStory(folder, new Random(5));
  const judge = async (name: string, spoil: (scene: Scene, file: (index: number, end: string) => string) => void, said?: StepOutcome) => {
    const step = STEPS.find((candidate) => candidate.name === name) as Step;
    const scene = await story.before(step);
    const outcome = said ?? { claim: await runStep(step, scene, scene.test.store), hit: false, codes: [] };
    spoil(scene, (index, end) => join(scene.test.folder, `${scene.backups[index]?.id}${end}`));
    return (await judgeStore(step, scene, outcome)).join('\n');
  };
  const nothing = (): void => undefined;
  for (const { name } of STEPS) expect(await judge(name, nothing), name).toBe('');
  expect(await judge('verify', nothing, { claim: {}, hit: true, codes: [] })).toContain('the verify said that all is good');
  expect(await judge('verify', nothing, { error: new Error('odd'), hit: true, codes: [] })).toContain('no ChainkeepError');
  expect(await judge('verify', nothing, { error: new Error('odd'), hit: false, codes: [] })).toContain('nothing was injected');
  const made = { made: { id: 'never-made', disk: Buffer.alloc(1) } };
  expect(await judge('full backup, zstd', nothing, { claim: made, hit: true, codes: [] })).toContain('never-made is gone');
  expect(await judge('restore to raw', ({ targets }) => writeFileSync(join(targets, 'restored'), 'x'))).toContain('with other content');
  expect(await judge('verify', ({ targets }) => writeFileSync(join(targets, '.part'), 'x'))).toContain('has left .part');
  expect(await judge('verify', ({ test }) => writeFileSync(join(test.folder, 'stranger'), 'x'))).toContain('rubbish stays');
  const gone = (_scene: Scene, file: (index: number, end: string) => string): void => unlinkSync(file(3, '.json'));
  expect(await judge('verify', gone)).toContain('is gone');
  await expect(
    judge('verify', (_scene, file) => {
      const bytes = readFileSync(file(0, '.qcow2'));
      bytes.fill(0xff, bytes.length - 9000);
      writeFileSync(file(0, '.qcow2'), bytes);
    }),
  ).rejects.toThrow(/.qcow2/);
  rmSync(folder, { recursive: true, force: true });
});
