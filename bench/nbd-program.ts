// What the program does over NBD, as a user starts it: exports of restore points, and backups of exports.

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { allocated, change, makeDisk, sh } from './disk.ts';
import { measure, type Sample } from './measure.ts';
import { peakMiB, printCompared, qemuNbd, readAll, serve, serveAddress } from './nbd-server.ts';

const CHAINKEEP = fileURLToPath(new URL('../chainkeep', import.meta.url));
const MIB = 1 << 20;

interface Place {
  readonly folder: string;
  readonly home: string;
  /** A raw disk that is changed from backup to backup. */
  readonly disk: string;
  readonly runs: number;
}

export async function benchProgram(folder: string, mebibytes: number, runs: number): Promise<void> {
  const place = { folder, home: join(folder, 'home'), disk: join(folder, 'files.raw'), runs };
  // Whole folders are copied: it becomes more than was asked for.
  makeDisk(place.disk, 8192 * MIB, mebibytes * MIB);
  for (const compression of ['none', 'zstd']) await benchExport(place, compression);
  await benchBackup(place);
}

function chainkeep({ home }: Place, ...args: string[]): () => Promise<Sample> {
  return () => measure([CHAINKEEP, '--quiet', '--home', home, ...args]);
}

/** A chain of three; qemu-nbd serves its newest image, with the images below it. */
async function benchExport(place: Place, compression: string): Promise<void> {
  const { folder, home, disk, runs } = place;
  for (let index = 0; index < 3; index++) {
    if (index > 0) change(disk, allocated(disk) / 100);
    await chainkeep(place, 'backup', disk, '--vm', 'bench', '--compression', compression)();
  }
  const newest = sh(`ls ${home}/repositories/default/vms/*/disk-0/*.qcow2 | tail -1`);
  const socket = join(folder, `images-${compression}`);
  const ours = await serveAddress([CHAINKEEP, '--home', home, 'export', 'latest', '--vm', 'bench']);
  const theirs = await serve(socket, qemuNbd(socket, 'qcow2', newest));
  try {
    const { address } = ours;
    for (const [title, more] of [
      [`export of a chain of three (${compression}): nbdcopy --requests=64 EXPORT null:`, []],
      [`export of a chain of three (${compression}), one connection:`, ['--connections=1']],
    ] as const)
      await printCompared(title, [readAll('chainkeep', address, ...more), readAll('qemu-nbd', theirs.address, ...more)], runs);
    if (compression === 'none') await benchBusy(place, address);
    await Promise.all(Array.from({ length: 16 }, readAll('16 clients', address).run));
    console.log(`peak memory of the export, after 16 clients at a time: ${peakMiB(ours)} MiB`);
  } finally {
    await ours.stop();
    await theirs.stop();
    rmSync(home, { recursive: true, force: true });
  }
}

/** The same export while other commands of the program work on the repository, one after the other without a pause. */
async function benchBusy(place: Place, address: string): Promise<void> {
  const works = [
    ['list'],
    ['verify', '--vm', 'bench'],
    ['backup', place.disk, '--vm', 'other', '--type', 'full'],
    ['chain', '--vm', 'bench'],
  ];
  let on = true;
  const busy = async (): Promise<void> => {
    while (on) for (const work of works) if (on) await chainkeep(place, ...work)();
  };
  let working: Promise<void> | undefined;
  const sides = [
    {
      ...readAll('beside list, verify, backup, chain', address),
      before: () => {
        on = true;
        working = busy();
      },
      after: async () => {
        on = false;
        await working;
      },
    },
    readAll('alone', address),
  ] as const;
  await printCompared('export while other commands work on the repository:', sides, place.runs);
}

async function benchBackup(place: Place): Promise<void> {
  const { folder, home, disk, runs } = place;
  const socket = join(folder, 'source');
  const source = await serve(socket, qemuNbd(socket, 'raw', disk));
  const image = join(folder, 'copy.qcow2');
  const backup = (...more: string[]) => chainkeep(place, 'backup', source.address, '--vm', 'nbd', '--compression', 'none', ...more);
  try {
    await printCompared(
      'full backup over NBD, no compression, every cluster digested:',
      [
        { name: 'chainkeep', run: backup('--type', 'full'), after: () => rmSync(home, { recursive: true }) },
        {
          name: 'qemu-img convert -W -m 8',
          run: () => measure(['qemu-img', 'convert', '-W', '-m', '8', '-f', 'raw', '-O', 'qcow2', source.address, image]),
          after: () => rmSync(image),
        },
      ],
      runs,
    );
  } finally {
    await source.stop();
  }
}
