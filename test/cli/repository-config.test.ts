import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readRepositoryConfig } from '../../src/cli/repository-config.ts';
import { isChainkeepError } from '../../src/plumbing/errors.ts';
import { parseAnswer, runChainkeep, temporaryFolder } from './run-chainkeep.ts';

function codeOf(run: () => unknown): string | undefined {
  try {
    run();
  } catch (error) {
    return isChainkeepError(error) ? error.code : 'another error';
  }
  return undefined;
}

describe('the configuration of a repository', () => {
  it('comes from a file, then options, then secrets', () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'config.json'), '{"path": "/from/file", "region": "eu", "bucket": "one"}');
    writeFileSync(join(folder, 'secret'), 'first line\nsecond line\n');
    process.env.CHAINKEEP_TEST_SECRET = 'from the environment';
    const config = readRepositoryConfig({
      config: join(folder, 'config.json'),
      path: 'relative',
      set: ['bucket=two=three', 'empty='],
      secret: ['access=env:CHAINKEEP_TEST_SECRET', `key=file:${join(folder, 'secret')}`],
    });
    delete process.env.CHAINKEEP_TEST_SECRET;
    expect(config).toEqual({
      path: resolve('relative'),
      region: 'eu',
      bucket: 'two=three',
      empty: '',
      access: 'from the environment',
      key: 'first line\nsecond line',
    });
  });

  it.for([
    ['CONFIG_INVALID', { config: '/does/not/exist' }],
    ['CONFIG_INVALID', { secret: ['key=env:CHAINKEEP_NO_SUCH_VARIABLE'] }],
    ['CONFIG_INVALID', { secret: ['key=file:/does/not/exist'] }],
    ['USAGE', { secret: ['key=plain'] }],
    ['USAGE', { secret: ['=env:HOME'] }],
    ['USAGE', { set: ['novalue'] }],
  ] as const)('is refused as %s: %j', ([code, options]) => {
    expect(codeOf(() => readRepositoryConfig(options))).toBe(code);
  });

  it.for(['not json', '[1]', 'null', '"text"'])('on stdin is refused when it is not a JSON object: %s', async (input) => {
    const run = await runChainkeep(['repo', 'add', 'r', '--config', '-', '--json', '--home', temporaryFolder()], { input });
    expect(run.code).toBe(1);
    expect(parseAnswer(run)).toMatchObject({ success: false, error_code: 'CONFIG_INVALID' });
  });
});
