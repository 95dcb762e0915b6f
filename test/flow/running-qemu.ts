// A real running machine: 'qemu-system-x86_64' without an operating system, whose disks are written to through its monitor as a guest would.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { onTestFinished } from 'vitest';
import { qemuImg } from './scratch-home.ts';

const LIMIT_MS = 60_000;

export interface VmDiskFile {
  readonly path: string;
  readonly format: 'raw' | 'qcow2';
}

export interface RunningQemu {
  /** Of the monitor that is left to the program. */
  readonly address: string;
  readonly otherAddress: string;
  /** A command in the monitor of the test. */
  command(name: string, parameters?: object): Promise<unknown>;
  /** What a guest would write to its disk: commands of qemu-io. On the disk when it resolves, so that an image of it can be taken. */
  write(disk: number, ...commands: readonly string[]): Promise<void>;
  /** A copy of the disk as it is now, raw. */
  save(disk: number, target: string): string;
  /** Everything in it that bears a name of ours, but for the bitmaps that are kept for the next backup. */
  leftovers(): Promise<readonly string[]>;
  /** Bitmaps with names on a disk. */
  bitmaps(disk: number): Promise<readonly string[]>;
  quit(): Promise<void>;
  kill(): Promise<void>;
}

interface Node {
  readonly 'node-name': string;
  readonly 'dirty-bitmaps'?: readonly { readonly name?: string }[];
}

/** `folder` for its sockets; `more` further arguments. Its disks are `vd0`, `vd1` … on nodes `node0`, `node1` … */
export async function startQemu(folder: string, disks: readonly VmDiskFile[], ...more: readonly string[]): Promise<RunningQemu> {
  const monitors = ['own', 'other', 'test'].map((name) => `${folder}/${name}.qmp`);
  const devices = disks.flatMap(({ path, format }, index) => [
    ...['-blockdev', `driver=${format},node-name=node${index},file.driver=file,file.filename=${path}`],
    ...['-device', `virtio-blk-pci,drive=node${index},id=vd${index}`],
  ]);
  const machine = ['-machine', 'q35,accel=tcg', '-nodefaults', '-display', 'none', '-m', '32'];
  const sockets = monitors.flatMap((path) => ['-qmp', `unix:${path},server=on,wait=off`]);
  for (const path of monitors) rmSync(path, { force: true });
  const child = spawn('qemu-system-x86_64', [...machine, ...sockets, ...devices, ...more], { stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = once(child, 'exit');
  const end = async (): Promise<void> => {
    child.kill('SIGKILL');
    await ended;
  };
  onTestFinished(end);
  const monitor = await openMonitor(monitors[2] ?? '', child);
  const nodes = async (): Promise<readonly Node[]> => {
    const all = await monitor('query-named-block-nodes', { flat: true });
    return Array.isArray(all) ? all : [];
  };
  const named = (list: unknown, key: string): string[] => (Array.isArray(list) ? list.map((one) => String(one[key])) : []);
  const namesOf = (node: Node): string[] => (node['dirty-bitmaps'] ?? []).flatMap(({ name }) => name ?? []);
  return {
    address: `qmp:${monitors[0]}`,
    otherAddress: `qmp:${monitors[1]}`,
    command: monitor,
    write: async (disk, ...commands) => {
      for (const command of [...commands, 'flush']) {
        const line = `qemu-io -d /machine/peripheral/vd${disk}/virtio-backend "${command}"`;
        const answer = String(await monitor('human-monitor-command', { 'command-line': line }));
        if (/fail|error|invalid/i.test(answer)) throw new Error(`${command}: ${answer}`);
      }
    },
    save: (disk, target) => {
      const { path = '', format = 'raw' } = disks[disk] ?? {};
      qemuImg('convert', '-U', '-f', format, '-O', 'raw', path, target);
      return target;
    },
    leftovers: async () => {
      const all = await nodes();
      return [
        ...named(await monitor('query-jobs'), 'id'),
        ...named(await monitor('query-block-exports'), 'id'),
        ...all.map((node) => node['node-name']).filter((name) => name.startsWith('ck-')),
        ...all.flatMap(namesOf).filter((name) => name.includes('-copy-')),
      ];
    },
    bitmaps: async (disk) => (await nodes()).filter((node) => node['node-name'] === `node${disk}`).flatMap(namesOf),
    quit: async () => {
      await monitor('quit');
      await ended;
    },
    kill: end,
  };
}

type Monitor = (command: string, parameters?: object) => Promise<unknown>;

async function openMonitor(path: string, child: ChildProcess): Promise<Monitor> {
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  let socket: Socket | undefined;
  for (let waited = 0; !socket; waited += 10) {
    if (child.exitCode !== null || waited > LIMIT_MS) throw new Error(`QEMU did not start: ${said}`);
    socket = await reach(path);
    if (!socket) await sleep(10);
  }
  const waiting: ((answer: { return?: unknown; error?: { desc: string } }) => void)[] = [];
  let text = '';
  socket.on('data', (chunk: Buffer) => {
    const lines = (text + chunk.toString()).split('\n');
    text = lines.pop() ?? '';
    for (const answer of lines.map((line) => JSON.parse(line))) if ('return' in answer || 'error' in answer) waiting.shift()?.(answer);
  });
  socket.on('error', () => undefined); // it goes with the machine
  const command: Monitor = (execute, parameters = {}) =>
    new Promise((resolve, reject) => {
      waiting.push((answer) => (answer.error ? reject(new Error(`${execute}: ${answer.error.desc}`)) : resolve(answer.return)));
      socket.write(`${JSON.stringify({ execute, arguments: parameters })}\n`);
    });
  await command('qmp_capabilities');
  return command;
}

function reach(path: string): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('connect', () => resolve(socket));
    socket.once('error', () => resolve(undefined));
  });
}
