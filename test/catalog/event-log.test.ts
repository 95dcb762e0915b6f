// The writer of log lines: all of them arrive, in their order; what does not fit is counted; a database that does not answer ends nothing.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { Catalog } from '../../src/catalog/catalog.ts';
import type { EventBound } from '../../src/catalog/event-buffer.ts';
import { openEventLog } from '../../src/catalog/event-log.ts';
import { insertTrackedJob, listTrackedJobs } from '../../src/catalog/job-tracking.ts';
import { listLogEvents } from '../../src/catalog/log-events.ts';
import { ChainkeepError } from '../../src/plumbing/errors.ts';
import type { LogLevel } from '../../src/plumbing/logger.ts';
import { AT, openScratch } from './scratch-catalog.ts';

const LOGGER = fileURLToPath(new URL('../jobs/log-process.ts', import.meta.url));

async function openLog(bound?: EventBound) {
  const { catalog, place, raw } = await openScratch();
  await insertTrackedJob(catalog, { id: 'j', job_type: 'x', operation: 'x', created_at: AT });
  const failures: unknown[] = [];
  const broken = { now: false };
  const failing: Catalog = {
    ...{ dialect: catalog.dialect, clock: catalog.clock },
    all: (statement) => catalog.all(statement),
    run: async (statement, options) => {
      if (broken.now) throw new ChainkeepError('CATALOG_FAILED', 'the disk is full');
      return catalog.run(statement, options);
    },
    transaction: (work) => catalog.transaction(work),
    close: async () => undefined,
  };
  const log = openEventLog(failing, 'j', (error) => failures.push(error), bound);
  const say = (message: string, level: LogLevel = 'info') => log.append({ level, message, stepId: null });
  const stored = async () => (await listLogEvents(catalog, 'j')).map((event) => event.message);
  return { catalog, place, raw, log, say, stored, failures, broken };
}

describe('log lines', () => {
  it('are written within a second, without anybody asking for it', async () => {
    const { say, stored } = await openLog();
    say('first');
    expect(await stored()).toEqual([]);
    await wait(900);
    expect(await stored()).toEqual(['first']);
    say('second');
    await wait(900);
    expect(await stored()).toEqual(['first', 'second']);
  });

  it('all arrive in their order when there are many at once, in batches between which others have their turn', async () => {
    const { log, say, stored } = await openLog();
    const lines = Array.from({ length: 10_000 }, (_, line) => `line ${line}`);
    for (const line of lines) say(line);
    let turns = 0;
    const timer = setInterval(() => {
      turns += 1;
    }, 1);
    expect(await log.flush()).toBe(true);
    clearInterval(timer);
    expect(await stored()).toEqual(lines);
    expect(turns).toBeGreaterThan(5);
  });

  it('a page of them goes on where the one before has ended', async () => {
    const { catalog, log, say } = await openLog();
    for (let line = 0; line < 25; line += 1) say(`line ${line}`);
    await log.flush();
    const seen: string[] = [];
    let after: { ts: string; id: number } | undefined;
    for (;;) {
      const page = await listLogEvents(catalog, 'j', { limit: 10, ...(after && { after }) });
      if (page.length === 0) break;
      seen.push(...page.map((event) => event.message));
      after = page.at(-1);
    }
    expect(seen).toEqual(Array.from({ length: 25 }, (_, line) => `line ${line}`));
  });

  it('of any size and content are taken; what is too long is cut and says so', async () => {
    const { catalog, log } = await openLog();
    log.append({ level: 'info', message: '😀'.repeat(60_000), stepId: null });
    log.append({ level: 'info', message: `half \ud800 pair`, stepId: null, attrs: { big: 'x'.repeat(200_000), list: [1n] } });
    await log.close();
    const [long, odd] = await listLogEvents(catalog, 'j');
    expect(long?.message.endsWith('…')).toBe(true);
    expect(odd?.message).toBe('half \ufffd pair');
    expect(odd?.attrs).toMatchObject({ characters: expect.any(Number) });
  });
});

describe('while the database does not take them', () => {
  it('they are kept and written afterwards; whoever watches hears of it once', async () => {
    const { say, stored, failures, broken } = await openLog();
    broken.now = true;
    for (let line = 0; line < 1000; line += 1) say(`line ${line}`);
    await wait(2500);
    say('last');
    expect(failures).toHaveLength(1);
    broken.now = false;
    await wait(2000);
    expect(await stored()).toEqual([...Array.from({ length: 1000 }, (_, line) => `line ${line}`), 'last']);
  });

  it('beyond the bound the oldest debug lines go first, then info; errors stay, and a line says how many were lost', async () => {
    const { catalog, log, say, broken } = await openLog({ events: 100, characters: 1_000_000 });
    broken.now = true;
    for (let line = 0; line < 80; line += 1) say(`debug ${line}`, 'debug');
    for (let line = 0; line < 80; line += 1) say(`info ${line}`);
    for (let line = 0; line < 20; line += 1) say(`error ${line}`, 'error');
    broken.now = false;
    await log.close();
    const events = await listLogEvents(catalog, 'j');
    const count = (level: LogLevel) => events.filter((event) => event.level === level).length;
    const [told] = events.filter((event) => event.message.includes('lines of this log were lost'));
    expect(told?.attrs).toEqual({ lost: { debug: 80, info: 80 - count('info') } });
    expect(told?.message).toContain(String(160 - count('info')));
    expect(count('debug')).toBe(0);
    expect(count('error')).toBe(20);
    expect(events.filter((event) => event.level === 'info').at(-1)?.message).toBe('info 79');
    expect(events.length).toBeLessThanOrEqual(101);
  });

  it('long lines count by their length', async () => {
    const { catalog, log, say, broken } = await openLog({ events: 1000, characters: 50_000 });
    broken.now = true;
    for (let line = 0; line < 50; line += 1) say('x'.repeat(10_000));
    broken.now = false;
    await log.close();
    expect((await listLogEvents(catalog, 'j')).length).toBeLessThan(10);
  });

  it('those that are left at the end are lost, and that is said', async () => {
    const { log, say, failures, broken } = await openLog();
    broken.now = true;
    for (let line = 0; line < 5; line += 1) say(`line ${line}`);
    await log.close();
    expect(String(failures.at(-1))).toContain('5 of its lines could not be written');
  });

  it('a job that is gone from the database keeps nobody', async () => {
    const { log, say, raw, stored } = await openLog();
    await raw("delete from job_tracking where id = 'j'");
    for (let line = 0; line < 300; line += 1) say(`line ${line}`);
    await log.close();
    expect(await stored()).toEqual([]);
  });
});

describe('two processes that log at once', () => {
  it('lose nothing of each other', async () => {
    const { catalog, place } = await openScratch();
    const runs = ['turns', 'steps'].map(async (mode) => {
      const child = spawn(process.execPath, [LOGGER, place.url, mode, '1500'], {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: { ...process.env, DATABASE_PASSWORD: place.password },
      });
      let output = '';
      child.stdout.on('data', (text) => {
        output += text;
      });
      await once(child, 'close');
      expect(output.slice(-200)).toContain('ended\n');
    });
    await Promise.all(runs);
    const jobs = await listTrackedJobs(catalog, {});
    expect(jobs.map((job) => job.status)).toEqual(['completed', 'completed']);
    for (const job of jobs) {
      const lines = (await listLogEvents(catalog, job.id)).map((event) => event.message);
      expect(lines).toEqual(Array.from({ length: 1500 }, (_, line) => `line ${line}`));
    }
  });
});
