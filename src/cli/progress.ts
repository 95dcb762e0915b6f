// Progress of a job on stderr: its steps and a bar that is redrawn on a terminal, a plain line every few seconds elsewhere.

import type { JobProgress, JobStepProgress } from '../app-interface.ts';
import type { Clock } from '../plumbing/clock.ts';
import { safeText } from './safe-text.ts';
import { formatSize } from './size-text.ts';
import { cutToWidth } from './text-width.ts';
import { formatDuration } from './time-text.ts';

const REDRAW_MS = 100;
const LINE_MS = 5000;
const BAR_COLUMNS = 12; // the longest line then fits a terminal of 80 columns

export interface ProgressStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

/** Shows progress until `clear`. `clear` must be called before anything else is written to the terminal. */
export class ProgressDisplay {
  readonly #stream: ProgressStream;
  readonly #clock: Clock;
  #phase = '';
  #phaseStart = { time: 0, done: 0 };
  #lastShown: number;
  #drawn = false;

  constructor(stream: ProgressStream, clock: Clock) {
    this.#stream = stream;
    this.#clock = clock;
    this.#lastShown = clock.monotonic();
  }

  update(progress: JobProgress): void {
    const now = this.#clock.monotonic();
    if (progress.phase !== this.#phase) {
      this.#phase = progress.phase;
      this.#phaseStart = { time: now, done: progress.done };
    }
    if (now - this.#lastShown < (this.#stream.isTTY ? REDRAW_MS : LINE_MS)) return;
    this.#lastShown = now;
    const line = this.#describe(progress, now);
    if (!this.#stream.isTTY) {
      this.#stream.write(`${line}\n`);
      return;
    }
    this.#draw(line);
  }

  /** On a terminal: what is being done now, and a line for each step that has ended. Elsewhere the job log has them. */
  step({ name, status, duration_ms }: JobStepProgress): void {
    if (!this.#stream.isTTY) return;
    this.clear();
    if (status === 'running') {
      this.#draw(`${safeText(name)} …`);
      return;
    }
    const mark = status === 'completed' ? 'done  ' : 'failed';
    this.#stream.write(`${cutToWidth(`${mark}  ${safeText(name)}  ${formatDuration(duration_ms)}`, this.#columns())}\n`);
  }

  clear(): void {
    if (this.#drawn) this.#stream.write('\r\x1b[K');
    this.#drawn = false;
  }

  #draw(line: string): void {
    this.#stream.write(`\r${cutToWidth(line, this.#columns())}\x1b[K`);
    this.#drawn = true;
  }

  #columns(): number {
    return (this.#stream.columns || 80) - 1;
  }

  #describe({ phase, done, total }: JobProgress, now: number): string {
    const seconds = (now - this.#phaseStart.time) / 1000;
    const rate = seconds > 0 ? (done - this.#phaseStart.done) / seconds : 0;
    const parts = [`${formatSize(rate)}/s`];
    if (total > 0) {
      const fraction = Math.min(1, done / total);
      const filled = Math.round(fraction * BAR_COLUMNS);
      const bar = this.#stream.isTTY ? [`[${'#'.repeat(filled)}${'.'.repeat(BAR_COLUMNS - filled)}]`] : [];
      parts.unshift(...bar, `${Math.floor(fraction * 100)} %`, `${formatSize(done)} of ${formatSize(total)}`);
      if (rate > 0) parts.push(`${formatDuration(((total - done) / rate) * 1000)} left`);
    } else parts.unshift(formatSize(done));
    return `${safeText(phase)}  ${parts.join('  ')}`;
  }
}
