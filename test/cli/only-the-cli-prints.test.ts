// Nothing but the command line prints: what lies below logs through the Logger of plumbing, into the job log.

import { globSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

const PRINTS =
  /\bconsole\s*\.\s*\w+\s*\(|\bprocess\s*\.\s*(stdout|stderr)\b|\bwriteSync\s*\(\s*[12]\b|\bcreateWriteStream\s*\(\s*['"]\/dev\/(stdout|stderr|tty)/;

it('finds what prints', () => {
  for (const line of ['console.log(1)', 'process.stdout.write("")', 'process . stderr', "writeSync(2, 'x')"]) expect(line).toMatch(PRINTS);
  for (const line of ['writeSync(descriptor, bytes)', 'the console', 'process.execPath']) expect(line).not.toMatch(PRINTS);
});

it('is not in any room but cli', () => {
  // Programs that the suites of stores start answer on stdout.
  const files = globSync('src/**/*.ts').filter((path) => !/^src\/(cli|\w+\/testing)\//.test(path));
  expect(files.length).toBeGreaterThan(100);
  const printing = files.flatMap((path) =>
    readFileSync(path, 'utf8')
      .split('\n')
      .flatMap((line, index) => (PRINTS.test(line) ? [`${path}:${index + 1}: ${line.trim()}`] : [])),
  );
  expect(printing).toEqual([]);
});
