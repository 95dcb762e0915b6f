import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';

it('says its version', () => {
  expect(execFileSync('./chainkeep', ['--version'], { encoding: 'utf8' })).toMatch(/^\d+\.\d+\.\d+\n$/);
});
