// Coverage of lines by room, and whether it is enough. Adds what vitest measured in the test processes (coverage-final.json)
// to what programs and worker threads that the tests started wrote themselves (coverage/children, see test/child-coverage.ts).

import { globSync, readFileSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const STRICT_ROOMS = ['qcow2', 'disk', 'transfer', 'repository'];
const STRICT_PERCENT = 90;
const OTHER_PERCENT = 80;

interface FileCoverage {
  readonly statementMap: Readonly<Record<string, { readonly start: { readonly line: number; readonly column: number } }>>;
  readonly s: Readonly<Record<string, number>>;
}

interface Range {
  readonly startOffset: number;
  readonly endOffset: number;
  readonly count: number;
}

interface ChildDump {
  readonly result: readonly { readonly url: string; readonly functions: readonly { readonly ranges: readonly Range[] }[] }[];
}

interface Lines {
  readonly file: string;
  readonly covered: number;
  readonly missed: readonly number[];
}

/** Per source file, the ranges of every process that loaded it. */
function readChildren(): Map<string, Range[][]> {
  const files = new Map<string, Range[][]>();
  for (const dump of globSync('coverage/children/*.json')) {
    const { result }: ChildDump = JSON.parse(readFileSync(dump, 'utf8'));
    for (const script of result) {
      if (!script.url.startsWith('file:') || script.url.includes('?')) continue;
      const path = fileURLToPath(script.url);
      if (!path.startsWith(resolve('src'))) continue;
      const runs = files.get(path) ?? [];
      runs.push(script.functions.flatMap((entry) => entry.ranges));
      files.set(path, runs);
    }
  }
  return files;
}

/** The innermost range around an offset says how often it ran. */
function ranAt(offset: number, ranges: readonly Range[]): boolean {
  let innermost: Range | undefined;
  for (const range of ranges) {
    if (range.startOffset > offset || range.endOffset <= offset) continue;
    if (!innermost || range.endOffset - range.startOffset < innermost.endOffset - innermost.startOffset) innermost = range;
  }
  return (innermost?.count ?? 0) > 0;
}

function linesOf(path: string, coverage: FileCoverage, runs: readonly Range[][]): Lines {
  const starts = [0];
  for (const line of readFileSync(path, 'utf8').split('\n')) starts.push((starts.at(-1) ?? 0) + line.length + 1);
  const hit = new Map<number, boolean>();
  for (const [id, { start }] of Object.entries(coverage.statementMap)) {
    const offset = (starts[start.line - 1] ?? 0) + start.column;
    const ran = (coverage.s[id] ?? 0) > 0 || runs.some((ranges) => ranAt(offset, ranges));
    hit.set(start.line, ran || (hit.get(start.line) ?? false));
  }
  const missed = [...hit].filter(([, ran]) => !ran).map(([line]) => line);
  return { file: relative('.', path), covered: hit.size - missed.length, missed };
}

function reportRoom(room: string, files: readonly Lines[]): boolean {
  const covered = files.reduce((sum, file) => sum + file.covered, 0);
  const all = covered + files.reduce((sum, file) => sum + file.missed.length, 0);
  if (all === 0) return true;
  const percent = (100 * covered) / all;
  const wanted = STRICT_ROOMS.includes(room) ? STRICT_PERCENT : OTHER_PERCENT;
  const enough = percent > wanted;
  console.log(
    `coverage of lines in ${room.padEnd(10)} ${percent.toFixed(1).padStart(5)} % of ${all} (more than ${wanted} wanted)${enough ? '' : ': NOT ENOUGH'}`,
  );
  if (enough && !process.argv.includes('--missed')) return true;
  for (const file of files.filter((entry) => entry.missed.length > 0).sort((a, b) => b.missed.length - a.missed.length)) {
    console.log(`  ${file.file}: ${file.missed.length} lines never ran: ${file.missed.join(' ')}`);
  }
  return enough;
}

const measured: Record<string, FileCoverage> = JSON.parse(readFileSync('coverage/coverage-final.json', 'utf8'));
const children = readChildren();
const rooms = new Map<string, Lines[]>();
for (const [path, coverage] of Object.entries(measured)) {
  const room = relative(resolve('src'), path).split('/').slice(0, -1)[0] ?? 'wiring';
  rooms.set(room, [...(rooms.get(room) ?? []), linesOf(path, coverage, children.get(path) ?? [])]);
}
const enough = [...rooms].sort().map(([room, files]) => reportRoom(room, files));
process.exitCode = enough.every(Boolean) ? 0 : 1;
