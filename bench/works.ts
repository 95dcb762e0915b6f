// The works that are measured, each with the figure it should reach.

import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { allocated, change, makeScattered, sh } from './disk.ts';
import { type Command, compare, measure, median, type Result, type Sample, type Side } from './measure.ts';

export interface Bench {
  readonly source: string;
  /** Scratch folder on a tmpfs. */
  readonly tmpfs: string;
  /** Scratch folder on a disk. */
  readonly disk: string;
  readonly runs: number;
}

export interface Work {
  readonly name: string;
  readonly goal: string;
  run(): Promise<string[]>;
}

const CHAINKEEP = fileURLToPath(new URL('../chainkeep', import.meta.url));
const SCRIPT = fileURLToPath(new URL('./digest-script.ts', import.meta.url));
const WRITER = fileURLToPath(new URL('./write-script.ts', import.meta.url));
const FILL = fileURLToPath(new URL('./fill-catalog.ts', import.meta.url));

export function works(bench: Bench): readonly Work[] {
  return [
    fullOnTmpfs(bench),
    fullOnDisk(bench),
    fullZstd(bench),
    fullOthers(bench),
    incremental(bench),
    restore(bench),
    ...verify(bench),
    listing(bench),
    memory(bench),
  ];
}

function chainkeep(home: string, ...args: string[]): () => Promise<Sample> {
  return () => measure([CHAINKEEP, '--quiet', ...args], { CHAINKEEP_HOME: home });
}

/** A full backup into a home that is there already, as on every day but the first; it is deleted again. */
function fullInto(home: string, source: string, compression: string): Side {
  return {
    name: 'chainkeep',
    run: chainkeep(home, 'backup', source, '--vm', 'bench', '--type', 'full', '--compression', compression),
    after: () =>
      void sh(`${CHAINKEEP} --quiet delete $(ls ${home}/repositories/default/vms/*/disk-0 | sed -n 's/.json$//p')`, {
        CHAINKEEP_HOME: home,
      }),
  };
}

/** The rounds of `sides`, of which one keeps a home in `home`. */
async function compareIn(home: string, sides: readonly Side[], runs: number): Promise<readonly Result[]> {
  try {
    return await compare(sides, runs);
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

/** How fast any program could be that writes the same bytes into one file: the limit of this machine. */
function bareWriter(target: string, source: string, ...options: string[]): Side {
  const clean = (): void => rmSync(target, { force: true });
  const run = (): Promise<Sample> => measure([process.execPath, WRITER, target, String(allocated(source)), ...options]);
  return {
    name: `a program that only writes as many bytes${options.includes('--fsync') ? ', and fsync' : ''}`,
    before: clean,
    run,
    after: clean,
  };
}

function qemuInto(target: string, source: string, ...options: string[]): Side {
  const command: Command = ['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', '-W', '-m', '8', ...options, source, target];
  const clean = (): void => rmSync(target, { force: true });
  return { name: `qemu-img convert ${options.join(' ')}`.trim(), before: clean, run: () => measure(command), after: clean };
}

function ratios(results: readonly Result[]): string[] {
  const [ours, ...others] = results;
  const lines = results.map(
    ({ name, seconds, peakMiB }) => `${seconds.toFixed(3).padStart(8)} s  ${peakMiB.toFixed(0).padStart(5)} MiB  ${name}`,
  );
  for (const other of others) lines.push(`=> ${(other.seconds / (ours?.seconds ?? 1)).toFixed(2)} times as fast as ${other.name}`);
  return lines;
}

function fullOnTmpfs({ source, tmpfs, runs }: Bench): Work {
  const home = join(tmpfs, 'home');
  const sides = [fullInto(home, source, 'none'), qemuInto(join(tmpfs, 'q.qcow2'), source), bareWriter(join(tmpfs, 'w'), source)];
  return {
    name: 'full-tmpfs',
    goal: 'full, no compression, digests on, on tmpfs: at least 1.2 times as fast',
    run: async () => ratios(await compareIn(home, sides, runs)),
  };
}

function fullOnDisk({ source, disk, runs }: Bench): Work {
  const home = join(disk, 'home');
  const sides = [
    fullInto(home, source, 'none'),
    qemuInto(join(disk, 'q.qcow2'), source, '-t', 'writeback'),
    bareWriter(join(disk, 'w'), source, '--fsync'),
  ];
  return {
    name: 'full-disk',
    goal: 'the same on a disk, both durable: at least 1.1 times as fast',
    run: async () => ratios(await compareIn(home, sides, runs)),
  };
}

function fullZstd({ source, tmpfs, runs }: Bench): Work {
  const home = join(tmpfs, 'home');
  const sides = [fullInto(home, source, 'zstd'), qemuInto(join(tmpfs, 'q.qcow2'), source, '-c', '-o', 'compression_type=zstd')];
  return {
    name: 'full-zstd',
    goal: 'full, zstd, digests on: at least 2 times as fast',
    run: async () => ratios(await compareIn(home, sides, runs)),
  };
}

function fullOthers({ source, tmpfs, runs }: Bench): Work {
  const home = join(tmpfs, 'home');
  const restic = join(tmpfs, 'restic');
  const borg = join(tmpfs, 'borg');
  const env = {
    RESTIC_PASSWORD: 'bench',
    RESTIC_REPOSITORY: restic,
    RESTIC_CACHE_DIR: join(tmpfs, 'cache'),
    BORG_BASE_DIR: join(tmpfs, 'borgbase'),
  };
  const fresh = (path: string, init: Command) => async (): Promise<void> => {
    rmSync(path, { recursive: true, force: true });
    await measure(init, env);
  };
  const sides: Side[] = [
    fullInto(home, source, 'zstd'),
    { name: 'restic backup', before: fresh(restic, ['restic', 'init']), run: () => measure(['restic', 'backup', source], env) },
    {
      name: 'borg create -C zstd,1',
      before: fresh(borg, ['borg', 'init', '-e', 'none', borg]),
      run: () => measure(['borg', 'create', '-C', 'zstd,1', '--sparse', `${borg}::a`, source], env),
    },
  ];
  const clean = (): void => [restic, borg].forEach((path) => rmSync(path, { recursive: true, force: true }));
  return {
    name: 'full-others',
    goal: 'full, zstd, against restic and borg: at least 3 times as fast',
    run: async () => {
      const lines = ratios(await compareIn(home, sides, Math.min(runs, 3)));
      clean();
      return lines;
    },
  };
}

function incremental({ source, tmpfs, runs }: Bench): Work {
  const home = join(tmpfs, 'home');
  const copy = join(tmpfs, 'changing.raw');
  const data = (): number => allocated(copy);
  return {
    name: 'incremental',
    goal: 'incremental without change tracking, 1 % changed: at most 1.2 times the time of a script that reads and digests once',
    run: async () => {
      sh(`cp --sparse=always ${source} ${copy}`);
      await chainkeep(home, 'backup', copy, '--vm', 'bench', '--compression', 'none')();
      const sides: Side[] = [
        {
          name: 'chainkeep',
          before: () => change(copy, data() / 100),
          run: chainkeep(home, 'backup', copy, '--vm', 'bench', '--compression', 'none'),
        },
        { name: 'script', run: () => measure([process.execPath, SCRIPT, copy]) },
      ];
      const results = await compare(sides, runs);
      rmSync(home, { recursive: true, force: true });
      rmSync(copy, { force: true });
      return [
        ...ratios(results),
        `=> ${((results[0]?.seconds ?? 0) / (results[1]?.seconds ?? 1)).toFixed(2)} times the time of the script`,
      ];
    },
  };
}

/** A chain of `length` in a home, newest last; answers the path of the newest image. */
async function makeChain(home: string, copy: string, source: string, length: number, compression: string): Promise<string> {
  rmSync(home, { recursive: true, force: true });
  sh(`cp --sparse=always ${source} ${copy}`);
  for (let index = 0; index < length; index++) {
    if (index > 0) change(copy, allocated(copy) / 100);
    await chainkeep(home, 'backup', copy, '--vm', 'bench', '--compression', compression)();
  }
  return sh(`ls ${home}/repositories/default/vms/*/disk-0/*.qcow2 | tail -1`);
}

function restore({ source, tmpfs, runs }: Bench): Work {
  const home = join(tmpfs, 'home');
  const copy = join(tmpfs, 'changing.raw');
  const target = join(tmpfs, 'restored.raw');
  const clean = (): void => rmSync(target, { force: true });
  return {
    name: 'restore',
    goal: 'restore of a chain of 10 to raw, every cluster checked, against qemu-img convert -O raw: as fast',
    run: async () => {
      const lines: string[] = [];
      for (const compression of ['none', 'zstd']) {
        const newest = await makeChain(home, copy, source, 10, compression);
        const sides: Side[] = [
          {
            name: `chainkeep (${compression})`,
            before: clean,
            run: chainkeep(home, 'restore', 'latest', '--vm', 'bench', target),
            after: clean,
          },
          {
            name: 'qemu-img convert -O raw',
            before: clean,
            run: () => measure(['qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', newest, target]),
            after: clean,
          },
          {
            name: 'qemu-img convert -W -m 8 -O raw',
            before: clean,
            run: () => measure(['qemu-img', 'convert', '-W', '-m', '8', '-f', 'qcow2', '-O', 'raw', newest, target]),
            after: clean,
          },
        ];
        lines.push(...ratios(await compare(sides, runs)));
      }
      rmSync(home, { recursive: true, force: true });
      rmSync(copy, { force: true });
      return lines;
    },
  };
}

function verify({ source, tmpfs, runs }: Bench): Work[] {
  const home = join(tmpfs, 'home');
  return ['none', 'zstd'].map((compression) => ({
    name: `verify-${compression}`,
    goal: `verify of a ${compression === 'none' ? 'plain' : 'compressed'} full: at least 70 % of the rate of the script over the ${compression === 'none' ? 'same' : 'expanded'} bytes`,
    run: async () => {
      rmSync(home, { recursive: true, force: true });
      await chainkeep(home, 'backup', source, '--vm', 'bench', '--compression', compression)();
      const bytes = compression === 'none' ? sh(`ls ${home}/repositories/default/vms/*/disk-0/*.qcow2`) : source;
      const sides: Side[] = [
        { name: 'chainkeep', run: chainkeep(home, 'verify', '--vm', 'bench') },
        { name: 'script', run: () => measure([process.execPath, SCRIPT, bytes]) },
      ];
      const results = await compare(sides, runs);
      rmSync(home, { recursive: true, force: true });
      return [
        ...ratios(results),
        `=> ${(((results[1]?.seconds ?? 0) / (results[0]?.seconds ?? 1)) * 100).toFixed(0)} % of the rate of the script`,
      ];
    },
  }));
}

function listing({ tmpfs, runs }: Bench): Work {
  const home = join(tmpfs, 'home');
  return {
    name: 'listing',
    goal: 'list and chain with 10 000 backups: under 100 ms more than --version, which takes under 150 ms',
    run: async () => {
      rmSync(home, { recursive: true, force: true });
      mkdirSync(home, { mode: 0o700 });
      await measure([process.execPath, FILL, home, '10000']);
      const sides: Side[] = [
        { name: '--version', run: chainkeep(home, '--version') },
        { name: 'list', run: chainkeep(home, 'list') },
        { name: 'list --json', run: chainkeep(home, 'list', '--json') },
        { name: 'chain --vm vm-1', run: chainkeep(home, 'chain', '--vm', 'vm-1') },
      ];
      const results = await compare(sides, Math.max(runs, 15));
      rmSync(home, { recursive: true, force: true });
      const version = results[0]?.seconds ?? 0;
      return results.map(
        ({ name, seconds }) => `${(seconds * 1000).toFixed(0).padStart(5)} ms  (+${((seconds - version) * 1000).toFixed(0)})  ${name}`,
      );
    },
  };
}

function memory({ tmpfs }: Bench): Work {
  const home = join(tmpfs, 'home');
  const disk = join(tmpfs, 'scattered.raw');
  return {
    name: 'memory',
    goal: 'peak memory with a sparse disk of 16 TiB, 200 000 scattered extents and a chain of 100: under 400 MiB',
    run: async () => {
      rmSync(home, { recursive: true, force: true });
      makeScattered(disk, 16 * 2 ** 40, 200_000);
      const backup = chainkeep(home, 'backup', disk, '--vm', 'bench');
      const full = await backup();
      const increments: Sample[] = [];
      for (let index = 1; index < 100; index++) {
        change(disk, 10 * 65_536);
        increments.push(await backup());
      }
      const verified = await chainkeep(home, 'verify', 'latest', '--vm', 'bench')();
      const restored = await chainkeep(home, 'restore', 'latest', '--vm', 'bench', `${disk}.restored`)();
      for (const path of [home, disk, `${disk}.restored`]) rmSync(path, { recursive: true, force: true });
      const last = increments.at(-1) ?? full;
      const line = (name: string, { seconds, peakMiB }: Sample): string =>
        `${seconds.toFixed(2).padStart(8)} s  ${peakMiB.toFixed(0).padStart(5)} MiB  ${name}`;
      return [
        line('full', full),
        line(`incremental, median of 99 (${median(increments.map((sample) => sample.seconds)).toFixed(2)} s), this is the 100th`, last),
        line('verify of the 100th with all it stands on', verified),
        line('restore of the 100th', restored),
      ];
    },
  };
}
