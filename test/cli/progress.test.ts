import { expect, it } from 'vitest';
import { ProgressDisplay } from '../../src/cli/progress.ts';
import type { Clock } from '../../src/plumbing/clock.ts';

const GIB = 1024 ** 3;

function openDisplay(terminal: boolean, columns = 100): { display: ProgressDisplay; written: string[]; wait: (ms: number) => void } {
  let time = 1000;
  const clock: Clock = { now: () => time, monotonic: () => time, boot: () => undefined };
  const written: string[] = [];
  const stream = { isTTY: terminal, columns, write: (text: string) => written.push(text) };
  return {
    display: new ProgressDisplay(stream, clock),
    written,
    wait: (ms) => {
      time += ms;
    },
  };
}

it('draws a bar with rate, percent and time left on a terminal, and takes it away', () => {
  const { display, written, wait } = openDisplay(true);
  display.update({ phase: 'copy', done: 0, total: 4 * GIB });
  expect(written).toEqual([]);
  wait(2000);
  display.update({ phase: 'copy', done: GIB, total: 4 * GIB });
  expect(written).toEqual(['\rcopy  [###.........]  25 %  1.0 GiB of 4.0 GiB  512.0 MiB/s  6.0 s left\x1b[K']);
  display.update({ phase: 'copy', done: 2 * GIB, total: 4 * GIB });
  expect(written).toHaveLength(1); // not more often than a terminal shows
  display.clear();
  display.clear();
  expect(written.slice(1)).toEqual(['\r\x1b[K']);
});

it('writes a plain line every few seconds elsewhere', () => {
  const { display, written, wait } = openDisplay(false);
  for (let second = 0; second <= 20; second += 1) {
    display.update({ phase: 'copy', done: second * 1024, total: 20 * 1024 });
    wait(1000);
  }
  expect(written).toHaveLength(4);
  expect(written[0]).toBe('copy  25 %  5.0 KiB of 20.0 KiB  1.0 KiB/s  15.0 s left\n');
  display.clear();
  expect(written).toHaveLength(4);
});

it('shows what is done where the whole is not known, and measures each phase by itself', () => {
  const { display, written, wait } = openDisplay(false);
  display.update({ phase: 'scan', done: 100 * 1024, total: 0 });
  wait(10_000);
  display.update({ phase: 'scan', done: 200 * 1024, total: 0 });
  display.update({ phase: 'copy\n', done: 500 * 1024, total: 1000 * 1024 });
  wait(5000);
  display.update({ phase: 'copy\n', done: 1000 * 1024, total: 1000 * 1024 });
  expect(written).toEqual(['scan  200.0 KiB  10.0 KiB/s\n', 'copy\\n  100 %  1000.0 KiB of 1000.0 KiB  100.0 KiB/s  0 ms left\n']);
});

it('draws on a terminal that does not say how wide it is', () => {
  const { display, written, wait } = openDisplay(true, 0);
  wait(1000);
  display.update({ phase: 'copy', done: 1024, total: 4096 });
  expect(written[0]).toContain('25 %');
});

it('shows steps on a terminal as they begin and end, and leaves them to the job log elsewhere', () => {
  const { display, written } = openDisplay(true, 40);
  display.step({ seq: 1, name: 'plan\x1b[2J', status: 'running', duration_ms: 0 });
  display.step({ seq: 1, name: 'plan\x1b[2J', status: 'completed', duration_ms: 12 });
  display.step({ seq: 2, name: 'x'.repeat(100), status: 'running', duration_ms: 0 });
  display.step({ seq: 2, name: 'copy', status: 'failed', duration_ms: 65_000 });
  expect(written[0]).toBe('\rplan\\x1b[2J …\x1b[K');
  expect(written.slice(1, 3)).toEqual(['\r\x1b[K', 'done    plan\\x1b[2J  12 ms\n']);
  expect(written[3]?.length).toBeLessThan(50);
  expect(written.slice(4)).toEqual(['\r\x1b[K', 'failed  copy  1 min 05 s\n']);
  const elsewhere = openDisplay(false);
  elsewhere.display.step({ seq: 1, name: 'plan', status: 'completed', duration_ms: 12 });
  expect(elsewhere.written).toEqual([]);
});
