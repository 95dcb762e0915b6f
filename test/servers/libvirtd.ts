// A libvirt of its own for tests: 'libvirtd' in a folder, as a user who is not root, with domains of 'qemu-system-x86_64'. Talked to with 'virsh'.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tool } from '../flow/scratch-home.ts';
import { untilListening } from './until-listening.ts';

/** nobody: as root, libvirt would be the one of the system. */
const USER = process.getuid?.() === 0 ? 65_534 : process.getuid?.();

export interface TestLibvirt {
  /** Puts the right user and the right libvirt in front of a command. */
  readonly as: readonly string[];
  virsh(...args: readonly string[]): string;
  /** Makes a file or folder one of this user. */
  give(path: string): string;
  /** Starts a domain of these disks: `vda`, `vdb` … */
  startDomain(name: string, disks: readonly DomainFile[]): void;
  /** Commands of qemu-io on a disk of a running domain; on the disk when they return. */
  write(domain: string, disk: number, ...commands: readonly string[]): void;
  stop(): Promise<void>;
}

export interface DomainFile {
  readonly path: string;
  readonly format: 'raw' | 'qcow2';
}

export async function startLibvirt(): Promise<TestLibvirt> {
  const folder = mkdtempSync(join(tmpdir(), 'ck-lv-'));
  const give = (path: string): string => {
    if (USER !== undefined && process.getuid?.() === 0) chownSync(path, USER, USER);
    return path;
  };
  for (const name of ['', 'run', 'home']) {
    mkdirSync(join(folder, name), { recursive: true });
    give(join(folder, name));
  }
  writeFileSync(join(folder, 'libvirtd.conf'), `log_outputs = "3:file:${folder}/log"\n`);
  const socket = join(folder, 'run/libvirt/libvirt-sock');
  const uri = `qemu+unix:///session?socket=${socket}`;
  const privileges = process.getuid?.() === 0 ? ['setpriv', '--reuid', `${USER}`, '--regid', `${USER}`, '--clear-groups'] : [];
  const home = [`HOME=${folder}/home`, `XDG_RUNTIME_DIR=${folder}/run`, `LIBVIRT_DEFAULT_URI=${uri}`];
  const as = [...privileges, 'env', '-u', 'XDG_CONFIG_HOME', '-u', 'XDG_CACHE_HOME', ...home];
  const virsh = (...args: readonly string[]): string => tool(as[0] ?? '', ...as.slice(1), 'virsh', '--quiet', ...args);
  const pidFile = join(folder, 'pid');
  const args = [...as.slice(1), 'libvirtd', '--config', join(folder, 'libvirtd.conf'), '--pid-file', pidFile];
  const path = `${process.env.PATH}:/usr/sbin:/sbin`;
  const child = spawn(as[0] ?? '', args, { stdio: 'ignore', env: { ...process.env, PATH: path } });
  const ended = once(child, 'exit');
  const domains: string[] = [];
  const stop = async (): Promise<void> => {
    for (const name of domains) tryTool(() => virsh('destroy', '--domain', name));
    child.kill('SIGTERM');
    await ended;
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await untilListening(socket, child, () => readLog(folder));
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    as,
    virsh,
    give,
    startDomain: (name, disks) => {
      const file = join(folder, `${name}.xml`);
      writeFileSync(file, domainXml(name, disks));
      virsh('create', '--file', file);
      domains.push(name);
    },
    write: (domain, disk, ...commands) => {
      for (const command of [...commands, 'flush']) {
        const line = `qemu-io -d /machine/peripheral/virtio-disk${disk}/virtio-backend "${command}"`;
        const answer = virsh('qemu-monitor-command', '--domain', domain, '--hmp', line);
        if (/fail|error|invalid/i.test(answer)) throw new Error(`${command}: ${answer}`);
      }
    },
    stop,
  };
}

function domainXml(name: string, disks: readonly DomainFile[]): string {
  const devices = disks.map(({ path, format }, index) => {
    const target = `vd${String.fromCharCode(97 + index)}`;
    return `<disk type='file' device='disk'><driver name='qemu' type='${format}'/><source file='${path}'/><target dev='${target}' bus='virtio'/></disk>`;
  });
  const cdrom = "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>";
  const machine = "<os><type arch='x86_64' machine='q35'>hvm</type></os>";
  const emulator = '<emulator>/usr/bin/qemu-system-x86_64</emulator>';
  return `<domain type='qemu'><name>${name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>${machine}<devices>${emulator}${devices.join('')}${cdrom}</devices></domain>`;
}

function tryTool(run: () => unknown): void {
  try {
    run();
  } catch {
    // it is gone already
  }
}

function readLog(folder: string): string {
  const path = join(folder, 'log');
  return statSync(path, { throwIfNoEntry: false }) ? readFileSync(path, 'utf8') : 'it has no log';
}
