// `npm run bench:nbd [-- --data MIB --runs 5 --folder DIR]`: how fast exports are served and read, beside qemu-nbd with the same files.
// Goals: `nbdcopy --requests=64 EXPORT null:` at least as fast as from qemu-nbd; memory of the server under 400 MiB with 16 clients.
// Nothing fails on time: it prints ratios of medians of one run, both sides by turns.

import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { sh } from './disk.ts';
import { compare, measure, type Result } from './measure.ts';

const { values } = parseArgs({
  options: {
    data: { type: 'string', default: '1500' },
    runs: { type: 'string', default: '5' },
    folder: { type: 'string', default: '/dev/shm' },
  },
});
const MIB = 1 << 20;
const RUNS = Number(values.runs);
const SERVE = fileURLToPath(new URL('./serve-nbd.ts', import.meta.url));
const COPY = fileURLToPath(new URL('./read-nbd.ts', import.meta.url));

const folder = mkdtempSync(join(values.folder, 'chainkeep-nbd-'));
const children: ChildProcess[] = [];
try {
  makeDisks(Number(values.data));
  for (const [format, file] of [
    ['raw', 'disk.raw'],
    ['qcow2', 'top.qcow2'],
  ] as const)
    await benchmark(format, join(folder, file));
} finally {
  for (const child of children) child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
}

/** A raw disk of random data with a hole of a third, and a chain of three images with the same data spread over them. */
function makeDisks(mebibytes: number): void {
  const raw = openSync(join(folder, 'disk.raw'), 'w');
  for (let at = 0; at < mebibytes; at++) if (at % 3 !== 2) writeSync(raw, randomBytes(MIB), 0, MIB, at * MIB);
  closeSync(raw);
  sh(`cd ${folder} && truncate -s ${mebibytes}M disk.raw && qemu-img convert -f raw -O qcow2 disk.raw base.qcow2`);
  for (const [below, above] of [
    ['base', 'middle'],
    ['middle', 'top'],
  ]) {
    sh(`cd ${folder} && qemu-img create -q -f qcow2 -F qcow2 -b ${below}.qcow2 ${above}.qcow2`);
    const writes = Array.from({ length: 50 }, (_, at) => `-c 'write -q -P ${at} ${at * Math.floor(mebibytes / 50)}M 1M'`).join(' ');
    sh(`cd ${folder} && qemu-io -f qcow2 ${writes} ${above}.qcow2`);
  }
}

async function benchmark(format: 'raw' | 'qcow2', file: string): Promise<void> {
  const ours = await start(join(folder, `ours-${format}`), (socket) => [process.execPath, SERVE, file, format, socket]);
  const theirs = await start(join(folder, `theirs-${format}`), (socket) => [
    'qemu-nbd',
    '-t',
    '-r',
    '-e',
    '32',
    '-f',
    format,
    '-x',
    'disk',
    '-k',
    socket,
    file,
  ]);
  const copy =
    (socket: string, ...more: string[]) =>
    () =>
      measure(['nbdcopy', '--requests=64', ...more, `nbd+unix:///disk?socket=${socket}`, 'null:']);
  console.log(`\nserve ${format}: nbdcopy --requests=64 EXPORT null:`);
  print(
    await compare(
      [
        { name: 'chainkeep', run: copy(ours.socket) },
        { name: 'qemu-nbd', run: copy(theirs.socket) },
      ],
      RUNS,
    ),
  );
  console.log(`serve ${format}, one connection:`);
  print(
    await compare(
      [
        { name: 'chainkeep', run: copy(ours.socket, '--connections=1') },
        { name: 'qemu-nbd', run: copy(theirs.socket, '--connections=1') },
      ],
      RUNS,
    ),
  );
  console.log(`read ${format} from qemu-nbd, all of it:`);
  const address = `nbd+unix:///disk?socket=${theirs.socket}`;
  const read = [
    { name: 'chainkeep', run: () => measure([process.execPath, COPY, address]) },
    { name: 'nbdcopy', run: copy(theirs.socket) },
  ];
  print(await compare(read, RUNS));
  await Promise.all(Array.from({ length: 16 }, copy(ours.socket)));
  console.log(`peak memory of the server, after 16 clients at a time: ${peakMiB(ours.child)} MiB`);
  for (const { child } of [ours, theirs]) child.kill('SIGTERM');
}

function print(results: readonly Result[]): void {
  for (const { name, seconds } of results) console.log(`  ${seconds.toFixed(2).padStart(6)} s  ${name}`);
  console.log(`  => ${((results[1]?.seconds ?? 0) / (results[0]?.seconds ?? 1)).toFixed(2)} times the rate of ${results[1]?.name}`);
}

async function start(
  socket: string,
  command: (socket: string) => readonly string[],
): Promise<{ readonly socket: string; readonly child: ChildProcess }> {
  const [file = '', ...args] = command(socket);
  const child = spawn(file, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  children.push(child);
  while (!existsSync(socket)) {
    if (child.exitCode !== null) throw new Error(`${file} did not start`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  // The file of a socket is there a moment before anybody listens at it.
  await new Promise((resolve) => setTimeout(resolve, 200));
  return { socket, child };
}

function peakMiB(child: ChildProcess): number {
  return Math.round(Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1] ?? 0) / 1024);
}
