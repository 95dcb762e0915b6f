// The server and the client of the NBD library by themselves, beside qemu-nbd and nbdcopy with the same files.

import { randomBytes } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sh } from './disk.ts';
import { measure } from './measure.ts';
import { peakMiB, printCompared, qemuNbd, readAll, serve } from './nbd-server.ts';

const MIB = 1 << 20;
const SERVE = fileURLToPath(new URL('./serve-nbd.ts', import.meta.url));
const COPY = fileURLToPath(new URL('./read-nbd.ts', import.meta.url));

export async function benchLibrary(folder: string, mebibytes: number, runs: number): Promise<void> {
  makeDisks(folder, mebibytes);
  for (const [format, file] of [
    ['raw', 'disk.raw'],
    ['qcow2', 'top.qcow2'],
  ] as const)
    await benchFormat(folder, format, join(folder, file), runs);
}

/** A raw disk of random data with a hole of a third, and a chain of three images with the same data spread over them. */
function makeDisks(folder: string, mebibytes: number): void {
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

async function benchFormat(folder: string, format: 'raw' | 'qcow2', file: string, runs: number): Promise<void> {
  const sockets = [join(folder, `ours-${format}`), join(folder, `theirs-${format}`)] as const;
  const ours = await serve(sockets[0], [process.execPath, SERVE, file, format, sockets[0]]);
  const theirs = await serve(sockets[1], qemuNbd(sockets[1], format, file));
  try {
    for (const [title, more] of [
      [`serve ${format}: nbdcopy --requests=64 EXPORT null:`, []],
      [`serve ${format}, one connection:`, ['--connections=1']],
    ] as const)
      await printCompared(title, [readAll('chainkeep', ours.address, ...more), readAll('qemu-nbd', theirs.address, ...more)], runs);
    const read = { name: 'chainkeep', run: () => measure([process.execPath, COPY, theirs.address]) };
    await printCompared(`read ${format} from qemu-nbd, all of it:`, [read, readAll('nbdcopy', theirs.address)], runs);
    await Promise.all(Array.from({ length: 16 }, readAll('16 clients', ours.address).run));
    console.log(`peak memory of the server, after 16 clients at a time: ${peakMiB(ours)} MiB`);
  } finally {
    await ours.stop();
    await theirs.stop();
  }
}
