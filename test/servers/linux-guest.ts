// A small Linux to boot: Debian's kernel for clouds and its static busybox, fetched as packages and unpacked, never installed.
// QEMU runs it without the help of the processor ('qemu-system-x86_64' with TCG): slower, and the same everywhere.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';

/** What the kernel needs to find a disk of QEMU, in the order in which they build on each other. */
const MODULES = ['virtio', 'virtio_ring', 'virtio_pci_legacy_dev', 'virtio_pci_modern_dev', 'virtio_pci', 'virtio_blk'];

export interface LinuxParts {
  readonly kernel: string;
  readonly initramfs: string;
  /** Path of a busybox that needs no library. */
  readonly busybox: string;
}

/** Fetches and builds into `folder`; a text says why it cannot be had. */
export function makeLinuxParts(folder: string): LinuxParts | string {
  mkdirSync(folder);
  const run = (command: string, ...args: readonly string[]): string =>
    execFileSync(command, args, { cwd: folder, encoding: 'utf8', timeout: 300_000, stdio: ['ignore', 'pipe', 'pipe'] });
  try {
    const kernelPackage = /Depends: (linux-image-\S+)/.exec(run('apt-cache', 'depends', 'linux-image-cloud-amd64'))?.[1];
    if (kernelPackage === undefined) return 'apt knows no kernel for clouds';
    run('apt-get', 'download', kernelPackage, 'busybox-static');
    for (const file of globSync('*.deb', { cwd: folder })) run('dpkg', '-x', file, 'unpacked');
  } catch (error) {
    return `the packages of the guest cannot be fetched: ${error instanceof Error ? error.message.split('\n')[0] : String(error)}`;
  }
  const [kernel = ''] = globSync('unpacked/boot/vmlinuz-*', { cwd: folder });
  const busybox = join(folder, 'unpacked/bin/busybox');
  const files = new Map([['bin/busybox', readFileSync(busybox)]]);
  for (const name of MODULES) {
    const [path] = globSync(`unpacked/lib/modules/**/${name}.ko`, { cwd: folder });
    if (path === undefined) return `the kernel has no module ${name}`;
    files.set(`modules/${basename(path)}`, readFileSync(join(folder, path)));
  }
  files.set('init', Buffer.from(initramfsScript()));
  const initramfs = join(folder, 'initramfs');
  writeFileSync(initramfs, packNewc(files));
  return { kernel: join(folder, kernel), initramfs, busybox };
}

/** Loads the drivers, prints a checksum of the disk, of which nobody has used anything yet, and goes over to it. */
function initramfsScript(): string {
  return `#!/bin/busybox sh
/bin/busybox mkdir -p /dev /disk
/bin/busybox mount -t devtmpfs dev /dev
${MODULES.map((name) => `/bin/busybox insmod /modules/${name}.ko`).join('\n')}
until [ -b /dev/vda ]; do /bin/busybox sleep 0.1; done
echo "disk $(/bin/busybox sha256sum </dev/vda)"
/bin/busybox mount -t ext4 -o ro /dev/vda /disk && exec /bin/busybox switch_root /disk /init
/bin/busybox echo "the disk cannot be mounted"
/bin/busybox poweroff -f
`;
}

/** An archive that the kernel unpacks: cpio in the format "newc". */
function packNewc(files: ReadonlyMap<string, Buffer>): Buffer {
  const folders = new Set([...files.keys()].filter((name) => name.includes('/')).map((name) => name.slice(0, name.lastIndexOf('/'))));
  const entries = [
    ...[...folders].map((name) => ({ name, mode: 0o40755, bytes: Buffer.alloc(0) })),
    ...[...files].map(([name, bytes]) => ({ name, mode: 0o100755, bytes })),
    { name: 'TRAILER!!!', mode: 0, bytes: Buffer.alloc(0) },
  ];
  const padded = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
  const pack = ({ name, mode, bytes }: (typeof entries)[number], index: number): Buffer => {
    const fields = [index + 1, mode, 0, 0, 1, 0, bytes.length, 0, 0, 0, 0, name.length + 1, 0];
    const head = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}${name}\0`;
    return Buffer.concat([padded(Buffer.from(head)), padded(bytes)]);
  };
  return Buffer.concat(entries.map(pack));
}

/** An ext4 disk that the guest goes on from: `init` is its first program. */
export function makeGuestDisk(path: string, { busybox }: LinuxParts, init: string, files: ReadonlyMap<string, Buffer>): void {
  const root = `${path}.root`;
  for (const name of ['bin', 'dev', 'proc']) mkdirSync(join(root, name), { recursive: true });
  cpSync(busybox, join(root, 'bin/busybox'));
  writeFileSync(join(root, 'init'), init, { mode: 0o755 });
  for (const [name, bytes] of files) writeFileSync(join(root, name), bytes);
  execFileSync('truncate', ['-s', '24M', path]);
  execFileSync('mkfs.ext4', ['-q', '-F', '-d', root, path], { env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` } });
  rmSync(root, { recursive: true });
}

/** Boots with the disk at this address, until the guest powers off; answers what it printed. */
export async function bootGuest({ kernel, initramfs }: LinuxParts, address: string, limitMs: number): Promise<string> {
  const machine = spawn(
    'qemu-system-x86_64',
    [
      ...['-accel', 'tcg,thread=multi', '-cpu', 'max', '-m', '256', '-nographic', '-no-reboot', '-nodefaults', '-serial', 'stdio'],
      ...['-kernel', kernel, '-initrd', initramfs, '-append', 'console=ttyS0 quiet panic=-1'],
      ...['-drive', `file=${address},format=raw,if=virtio`],
    ],
    { stdio: ['ignore', 'pipe', 'pipe'], timeout: limitMs, killSignal: 'SIGKILL' },
  );
  let printed = '';
  for (const stream of [machine.stdout, machine.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      printed += chunk.toString('latin1');
    });
  }
  await once(machine, 'close');
  return printed;
}
