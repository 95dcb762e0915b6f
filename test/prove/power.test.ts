// Power loss, with few states; and that the campaign can fail: a program that forgets one kind of sync is found out.

import { expect, it } from 'vitest';
import { Trial } from '../../prove/campaign.ts';
import { withMemoryFolder } from '../../prove/memory-folder.ts';
import { CrashStates } from '../../prove/power/crash-state.ts';
import type { Operation, Recording } from '../../prove/power/operation.ts';
import { type Story, tellStory } from '../../prove/power/story.ts';
import { StraceReader } from '../../prove/power/strace-log.ts';
import { judgeStory, power } from '../../prove/power.ts';
import { Random } from '../../prove/random.ts';
import { expectAllGood } from './run-small.ts';

it('survives power loss', async () => {
  await expectAllGood(power);
}, 7_200_000);

it('finds a program that does not sync its files, or its folders', async () => {
  await withMemoryFolder(async (folder) => {
    const story = await tellStory(folder, 1);
    const { folders } = story.recording;
    expect(await badStates(story, folder, ({ node }) => folders.has(node))).toBeGreaterThan(0);
    expect(await badStates(story, folder, ({ node }) => !folders.has(node))).toBeGreaterThan(0);
  });
});

/** Of some states of the story, as if the syncs that are chosen had never been. */
async function badStates(story: Story, folder: string, forgotten: (sync: { node: number }) => boolean): Promise<number> {
  const operations = story.recording.operations.map(
    (operation): Operation => (operation.kind === 'sync' && forgotten(operation) ? { ...operation, covers: 0 } : operation),
  );
  const trial = new Trial({ campaign: 'power', count: 40, seed: 2, say: () => undefined });
  await judgeStory(trial, { ...story, recording: { ...story.recording, operations } }, folder);
  trial.close();
  return trial.bad;
}

it('keeps what was synced, and anything of the rest', () => {
  const file = Buffer.alloc(1024, 'a');
  const operations: Operation[] = [
    { kind: 'name', folder: 0, name: 'one', node: 1 },
    { kind: 'write', node: 1, at: 0, bytes: file },
    { kind: 'sync', node: 1, covers: 2 },
    { kind: 'name', folder: 0, name: 'two', node: 2 },
    { kind: 'sync', node: 0, covers: 1 },
    { kind: 'write', node: 2, at: 0, bytes: file },
  ];
  const recording: Recording = { operations, folders: new Set([0]) };
  const found = new Set<string>();
  for (let seed = 0; seed < 200; seed++) {
    const crash = { cut: 6, data: 512, names: 'some', luck: 0.5 } as const;
    const { files } = new CrashStates(recording).make(crash, new Random(seed));
    expect(files.get('one')?.bytes.equals(file)).toBe(true);
    const two = files.get('two')?.bytes;
    found.add(two ? `${two.length}:${[0, 512].map((at) => two[at] ?? '-').join()}` : 'none');
  }
  const [letter, zero] = [97, 0];
  expect(found).toEqual(
    new Set([
      'none',
      '0:-,-',
      `512:${letter},-`,
      `1024:${letter},${letter}`,
      `1024:${zero},${letter}`,
      `1024:${letter},${zero}`,
      `1024:${zero},${zero}`,
    ]),
  );
});

it('refuses a log it does not understand', () => {
  const hex = (text: string): string => [...Buffer.from(text)].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('');
  const reader = new StraceReader('/r', () => false);
  reader.read(
    `12 mkdir("${hex('/r/a')}", 0700) = 0\n13 openat(AT_FDCWD<${hex('/')}>, "${hex('/elsewhere')}", O_RDWR|O_CREAT) = 3<${hex('/elsewhere')}>\n`,
  );
  expect(reader.recording.operations).toEqual([{ kind: 'name', folder: 0, name: 'a', node: 1 }]);
  expect(() => reader.read(`12 symlink("${hex('/x')}", "${hex('/r/a/b')}") = 0\n`)).toThrow('not understood');
  expect(() => reader.read(`12 fsync(3<${hex('/r/never')}>) = 0\n`)).toThrow('never made');
  expect(() => reader.read(`12 mkdir("${hex('/r/c')}", 0700 <unfinished ...>\n`)).toThrow('never returned');
});
