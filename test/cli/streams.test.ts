import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { LAUNCHER } from './run-chainkeep.ts';

const TIME_LIMIT = { timeout: 20_000 };

/** Runs a line of bash; answers its stdout and stderr whatever its exit code. */
async function bash(line: string): Promise<{ stdout: string; stderr: string }> {
  return promisify(execFile)('bash', ['-c', line], { ...TIME_LIMIT, env: { ...process.env, LAUNCHER } });
}

it('ends quietly when nobody reads any more', async () => {
  const { stdout, stderr } = await bash('set -o pipefail; "$LAUNCHER" --help | (exec <&-; sleep 0.5); echo "exit $?"');
  expect(stdout).toBe('exit 0\n');
  expect(stderr).toBe('');
});

it('says when its errors cannot be read, by the exit code alone', async () => {
  const { stdout } = await bash('set -o pipefail; "$LAUNCHER" bakup 2>&1 >/dev/null | (exec <&-; sleep 0.5); echo "exit $?"');
  expect(stdout).toBe('exit 2\n');
});

it.runIf(existsSync('/dev/full'))('fails when the answer cannot be written', async () => {
  const { stdout, stderr } = await bash('set -o pipefail; "$LAUNCHER" --help >/dev/full; echo "exit $?"');
  expect(stdout).toBe('exit 1\n');
  expect(stderr).toMatch(/^error: the answer could not be written: .*ENOSPC/);
});
