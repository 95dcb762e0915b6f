// The fenced blocks of a page, and what each is for. A block of any other kind is an error: no command may hide from the tests.
//   sh                    commands; run in the order of the pages
//   sh no-test: REASON    commands that cannot be run in a test, and why
//   text                  what the block in front of it prints, but for ids, sizes and durations
//   ts file=NAME          a program that later commands run
//   json, or nothing      an example, a drawing

import { readFileSync } from 'node:fs';

export type FencedBlock = { readonly text: string; readonly line: number } & (
  | { readonly kind: 'commands' | 'output' | 'example' }
  | { readonly kind: 'commands left out'; readonly reason: string }
  | { readonly kind: 'program'; readonly file: string }
);

export function readFencedBlocks(page: string): FencedBlock[] {
  const blocks: FencedBlock[] = [];
  const lines = readFileSync(page, 'utf8').split('\n');
  for (let at = 0; at < lines.length; at++) {
    const fence = /^```(.*)$/.exec(lines[at] ?? '');
    if (!fence) continue;
    const end = lines.indexOf('```', at + 1);
    if (end < 0) throw new Error(`${page}:${at + 1}: the block does not end`);
    blocks.push({ text: `${lines.slice(at + 1, end).join('\n')}\n`, line: at + 1, ...kindOf(fence[1] ?? '', `${page}:${at + 1}`) });
    at = end;
  }
  return blocks;
}

function kindOf(info: string, where: string) {
  if (info === 'sh') return { kind: 'commands' } as const;
  if (info === 'text') return { kind: 'output' } as const;
  if (info === '' || info === 'json') return { kind: 'example' } as const;
  const reason = /^sh no-test: (.{10,})$/.exec(info)?.[1];
  if (reason) return { kind: 'commands left out', reason } as const;
  const file = /^ts file=([a-z-]+\.ts)$/.exec(info)?.[1];
  if (file) return { kind: 'program', file } as const;
  throw new Error(`${where}: a block of kind "${info}" is not known`);
}
