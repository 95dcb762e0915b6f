// What the pages claim and a machine can check: links, lengths, the table of arrows, the codes of errors.

import { existsSync, globSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ERROR_CODES } from '../../src/plumbing/errors.ts';

const PAGES = ['README.md', 'ARCHITECTURE.md', 'CHANGELOG.md', ...globSync('docs/**/*.md').toSorted()];

interface LintRules {
  readonly forbidden: readonly { readonly name: string; readonly to: { readonly path?: unknown; readonly pathNot?: readonly string[] } }[];
}

describe('the pages', () => {
  it.each(PAGES)('%s leads only to pages and headings that are there', (page) => {
    const text = readFileSync(page, 'utf8').replaceAll(/`[^`\n]*`/g, '');
    const links = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = '']) => target);
    const broken = links.filter((target) => !/^https?:/.test(target) && !isThere(page, target));
    expect(broken).toEqual([]);
  });

  it('name no error code that does not exist', () => {
    const pages = PAGES.filter((page) => !page.startsWith('docs/reference/')); // those are made from the list itself
    const words = pages.flatMap((page) =>
      [...readFileSync(page, 'utf8').matchAll(/[`"]([A-Z]\w+_[A-Z]+)[`"]/g)].map(([, word = '']) => word),
    );
    expect(words).toContain('DIGEST_MISMATCH');
    const others = ['DEFAULT_LIMITS', 'LIBVIRT_DEFAULT_URI'];
    expect(words.filter((word) => !(word in ERROR_CODES || word.startsWith('CHAINKEEP_') || others.includes(word)))).toEqual([]);
  });
});

describe('ARCHITECTURE.md', () => {
  const text = readFileSync('ARCHITECTURE.md', 'utf8');

  it('has at most 150 lines', () => {
    expect(text.split('\n').length).toBeLessThanOrEqual(151);
  });

  it('has the table of arrows that lint enforces', () => {
    const rules: LintRules = createRequire(import.meta.url)('../../.dependency-cruiser.cjs');
    const enforced = rules.forbidden
      .filter(({ name }) => name.startsWith('arrows-'))
      .map(({ name, to }) => {
        const room = name.slice('arrows-'.length);
        const typesOnly = rules.forbidden.filter((rule) => rule.name === `types-only-${room}`).map((rule) => rule.to.path);
        const targets = (to.pathNot ?? []).map((path) => (typesOnly.includes(path) ? `types of ${nameOf(path)}` : nameOf(path)));
        return [room, targets.filter((target) => target !== room).join(', ')];
      });
    const written = [...text.matchAll(/^\| `([a-z0-9]+)` \| [^|]+ \|(?: ([^|]+))? \|$/gm)].map(([, room, targets = '']) => [room, targets]);
    expect(written).toEqual(enforced);
  });
});

/** `^src/disk/` and `^src/app\.ts$` as the table names them. */
function nameOf(path: string): string {
  return path.replace('^src/', '').replace(/\/$|\\\.ts\$$/, '');
}

function isThere(page: string, target: string): boolean {
  const [file = '', heading] = target.split('#');
  const path = file === '' ? page : join(dirname(page), file);
  if (!existsSync(path)) return false;
  if (heading === undefined) return true;
  const headings = [...readFileSync(path, 'utf8').matchAll(/^#+ (.+)$/gm)].map(([, words = '']) => words);
  return headings.some(
    (words) =>
      words
        .toLowerCase()
        .replaceAll(/[^\w\- ]/g, '')
        .replaceAll(' ', '-') === heading,
  );
}
