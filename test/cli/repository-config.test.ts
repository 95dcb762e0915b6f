import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { readRepositoryConfig } from '../../src/cli/repository-config.ts';
import { type ChainkeepError, isChainkeepError } from '../../src/plumbing/errors.ts';
import { parseAnswer, runChainkeep, temporaryFolder } from './run-chainkeep.ts';

function errorOf(run: () => unknown): ChainkeepError {
  try {
    run();
  } catch (error) {
    if (isChainkeepError(error)) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
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
    expect(config.config).toEqual({ path: '/from/file', region: 'eu', bucket: 'one' });
    expect(config.settings).toEqual({ path: resolve('relative'), bucket: 'two=three', empty: '' });
    expect(Object.entries(config.secrets).map(([key, secret]) => [key, secret.reveal()])).toEqual([
      ['access', 'from the environment'],
      ['key', 'first line\nsecond line'],
    ]);
    expect(process.env.CHAINKEEP_TEST_SECRET, 'no child process inherits it').toBeUndefined();
  });

  it('repeats nothing of what was given when it is refused', () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'broken.json'), '{"password": "hunter2-hunter2", }');
    for (const options of [
      { config: join(folder, 'broken.json') },
      { secret: ['key=hunter2-hunter2'] },
      { secret: ['hunter2-hunter2'] },
      { secret: ['key=env:hunter2-hunter2'] },
      { secret: ['key=file:/hunter2-hunter2'] },
      { set: ['hunter2-hunter2'] },
    ]) {
      const error = errorOf(() => readRepositoryConfig(options));
      expect(inspect(error, { depth: 9 }), JSON.stringify(options)).not.toContain('hunter2');
    }
  });

  it.for([
    ['CONFIG_INVALID', { config: '/does/not/exist' }],
    ['CONFIG_INVALID', { secret: ['key=env:CHAINKEEP_NO_SUCH_VARIABLE'] }],
    ['CONFIG_INVALID', { secret: ['key=file:/does/not/exist'] }],
    ['USAGE', { secret: ['key=plain'] }],
    ['USAGE', { secret: ['=env:HOME'] }],
    ['USAGE', { set: ['novalue'] }],
  ] as const)('is refused as %s: %j', ([code, options]) => {
    expect(errorOf(() => readRepositoryConfig(options)).code).toBe(code);
  });

  it.for(['not json', '[1]', 'null', '"text"'])('on stdin is refused when it is not a JSON object: %s', async (input) => {
    const run = await runChainkeep(['repo', 'add', 'r', '--config', '-', '--json', '--home', temporaryFolder()], { input });
    expect(run.code).toBe(1);
    expect(parseAnswer(run)).toMatchObject({ success: false, error_code: 'CONFIG_INVALID' });
  });
});
