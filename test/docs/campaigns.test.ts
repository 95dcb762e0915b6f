// The page of promises against the campaigns that there are: each is on it, none that is not there, and its commands are understood.

import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { CAMPAIGNS } from '../../prove/campaigns.ts';
import { readFencedBlocks } from './fenced-blocks.ts';

const PAGE = 'docs/guide/06-promises.md';
const names = CAMPAIGNS.map(({ name }) => name);

it('each campaign is in the table of the page, and each of the table can be run', () => {
  const text = readFileSync(PAGE, 'utf8');
  const table = text.slice(text.indexOf('| campaign |'));
  const written = [...table.matchAll(/^\| `([a-z-]+)` \|/gm)].map(([, name = '']) => name);
  expect(written.toSorted()).toEqual(names.toSorted());
});

it('the commands on the page name campaigns that there are', () => {
  const commands = readFencedBlocks(PAGE).flatMap(({ text }) => [...text.matchAll(/^npm run prove -- (?!--)([a-z-]+)/gm)]);
  expect(commands.length).toBeGreaterThan(0);
  expect(commands.map(([, name = '']) => name).filter((name) => !names.includes(name))).toEqual([]);
});
