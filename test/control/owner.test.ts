// Who is provably dead, on real processes.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { currentOwner, isProvablyDead } from '../../src/control/owner.ts';
import { openScratch } from '../catalog/scratch-catalog.ts';

/** A process that lives until it is ended, and its start time by the means of the shell. */
function startSleeper() {
  const child = spawn('sleep', ['60'], { stdio: 'ignore' });
  const pid = child.pid ?? 0;
  const started = Number(readFileSync(`/proc/${pid}/stat`, 'utf8').split(' ')[21]);
  return { child, pid, started };
}

/** exit(2), the bare call, ends only the thread that makes it. */
const END_FIRST_THREAD = `
  const exit = { x64: 60, arm64: 93 }[process.arch];
  setTimeout(() => require('koffi').load(null).func('long syscall(long, long)')(exit, 0), 100);
`;

/** /proc/PID/stat once the first thread has ended; throws when it does not within ten seconds. */
async function zombieStat(pid: number): Promise<string> {
  for (let wait = 0; wait < 1000; wait += 1) {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    if (/\) Z /.test(stat)) return stat;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`process ${pid} has not ended`);
}

describe('an owner', () => {
  it('is this process, the same each time it is asked', async () => {
    const { catalog } = await openScratch();
    const self = await currentOwner(catalog);
    expect(self).toMatchObject({ pid: process.pid, hostname: expect.any(String), machine_id: expect.any(String) });
    expect(self.boot_id).toBe(readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim());
    expect(self.pid_namespace).toMatch(/^pid:\[\d+\]$/);
    expect(self.process_started).toBeGreaterThan(0);
    expect(await currentOwner(catalog)).toEqual(self);
    expect(isProvablyDead(self, self)).toBe(false);
  });

  it('is dead when its process has ended, or is ended and not yet collected, or its number was used again', async () => {
    const { catalog } = await openScratch();
    const self = await currentOwner(catalog);
    const { child, pid, started } = startSleeper();
    const owner = { ...self, pid, process_started: started };
    expect(isProvablyDead(owner, self)).toBe(false);
    expect(isProvablyDead({ ...owner, process_started: started - 1 }, self)).toBe(true);
    child.kill('SIGSTOP');
    expect(isProvablyDead(owner, self)).toBe(false);
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(isProvablyDead(owner, self)).toBe(true);
  });

  it('is dead as a zombie, whose number and start time are still there', async () => {
    const { catalog } = await openScratch();
    const self = await currentOwner(catalog);
    // The shell starts a short process, and becomes a program that never collects it.
    const parent = spawn('sh', ['-c', 'sleep 0.1 & echo $!; exec sleep 60'], { stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      const pid = Number(String((await once(parent.stdout, 'data'))[0]).trim());
      const stat = await zombieStat(pid);
      const started = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]);
      expect(isProvablyDead({ ...self, pid, process_started: started }, self)).toBe(true);
    } finally {
      parent.kill('SIGKILL');
    }
  });

  it('is alive while any thread of it is, which may be inside a call that ends later', async () => {
    const { catalog } = await openScratch();
    const self = await currentOwner(catalog);
    const child = spawn(process.execPath, ['-e', END_FIRST_THREAD], { cwd: import.meta.dirname, stdio: ['ignore', 'ignore', 'inherit'] });
    try {
      const stat = await zombieStat(child.pid ?? 0);
      const started = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]);
      const owner = { ...self, pid: child.pid ?? 0, process_started: started };
      expect(isProvablyDead(owner, self)).toBe(false);
      child.kill('SIGKILL');
      await once(child, 'exit');
      expect(isProvablyDead(owner, self)).toBe(true);
    } finally {
      child.kill('SIGKILL');
    }
  });

  it('of this machine before its last start is dead; of another machine, container or unknown kind nothing is proved', async () => {
    const { catalog } = await openScratch();
    const self = await currentOwner(catalog);
    const gone = { ...self, pid: 2 ** 22, process_started: 1 };
    expect(isProvablyDead(gone, self)).toBe(true);
    expect(isProvablyDead({ ...self, boot_id: 'before' }, self)).toBe(true);
    for (const other of [
      { machine_id: 'other' },
      { machine_id: 'other', boot_id: 'other' },
      { hostname: 'clone-with-the-same-machine-id', boot_id: 'other' },
      { pid_namespace: 'pid:[1]' },
      { pid_namespace: null },
      { machine_id: null },
      { boot_id: null },
    ]) {
      expect(isProvablyDead({ ...gone, ...other }, self), JSON.stringify(other)).toBe(false);
    }
  });
});
