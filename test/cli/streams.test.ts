import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it, onTestFinished } from 'vitest';
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

// The foreign functions sync stderr at the end of a process, and would wait for ever where that fails.
it('ends also where its words cannot be synced, as a log on a full disk', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'chainkeep-streams-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, 'disk.raw'), Buffer.alloc(1 << 20, 'text'));
  writeFileSync(join(folder, 'log'), '');
  const inject = ['strace', `-f -qq -o /dev/null -P ${folder}/log -e trace=fsync -e inject=fsync:error=ENOSPC`].join(' ');
  const line = `"$LAUNCHER" image convert --source-format raw ${folder}/disk.raw ${folder}/disk.qcow2 --format qcow2 --compression zstd >/dev/null 2>${folder}/log`;
  const { stdout } = await bash(`${inject} sh -c '${line}'; echo "exit $?"`);
  expect(stdout).toBe('exit 0\n');
});
