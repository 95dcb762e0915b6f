import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseAnswer, whenEnded } from './run-chainkeep.ts';

async function startJob(cleanUpMs: number): Promise<ChildProcessWithoutNullStreams> {
  const child = spawn(process.execPath, [resolve('test/cli/interrupted-job.ts'), String(cleanUpMs)], {
    timeout: 20_000,
    killSignal: 'SIGKILL',
  });
  await once(child.stderr, 'data');
  return child;
}

describe('interruption', () => {
  it.concurrent.for(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s ends the job cleanly, with exit code 1', async (signal) => {
    const child = await startJob(50);
    const ended = whenEnded(child);
    child.kill(signal);
    const run = await ended;
    expect(run.code).toBe(1);
    expect(run.stderr).toContain('cleaned up');
    expect(run.stderr).toContain(`error: cancelled by ${signal}`);
    expect(parseAnswer(run)).toMatchObject({ success: false, error_code: 'CANCELLED' });
  });

  it.concurrent('a second one ends the program at once', async () => {
    const child = await startJob(15_000);
    const ended = whenEnded(child);
    child.kill('SIGINT');
    await once(child.stderr, 'data'); // "stopping cleanly"
    child.kill('SIGINT');
    const run = await ended;
    expect(run.code).toBe(1);
    expect(run.stderr).not.toContain('cleaned up');
  });
});
