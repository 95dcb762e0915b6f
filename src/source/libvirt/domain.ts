// A domain of libvirt: which disks it has, who it runs as, and what the backup that it may be in says.

import { setTimeout as sleep } from 'node:timers/promises';
import { ChainkeepError, isChainkeepError } from '../../plumbing/errors.ts';
import type { FileOwner } from '../scratch-folder.ts';
import { domainOption, virsh } from './virsh.ts';
import { childrenOf, parseXml, type XmlElement } from './xml.ts';

export interface DomainDisk {
  /** From 0, in the order of the domain. */
  readonly number: number;
  /** Its target in the domain: `vda`. */
  readonly name: string;
  readonly file: string;
  /** Only QCOW2 images keep the bitmaps of checkpoints. */
  readonly keepsBitmaps: boolean;
}

export interface Domain {
  readonly name: string;
  readonly uuid: string;
  readonly disks: readonly DomainDisk[];
  /** How many it has. */
  readonly iothreads: number;
  /** The user of its QEMU, where libvirt runs it as another one. */
  readonly owner: FileOwner | undefined;
}

/** Throws SOURCE_NOT_FOUND, SOURCE_INVALID (not running, no disks). */
export async function readDomain(name: string): Promise<Domain> {
  const state = (await virsh('domstate', domainOption(name))).trim();
  if (state !== 'running' && state !== 'paused') throw notRunning(name, state);
  const xml = parseXml(await virsh('dumpxml', domainOption(name)));
  const disks = childrenOf(xml, 'devices', 'disk').filter(isDisk).map(describe);
  const uuid = childrenOf(xml, 'uuid')[0]?.text ?? '';
  const iothreads = Number(childrenOf(xml, 'iothreads')[0]?.text ?? 0);
  if (disks.length > 0) return { name, uuid, disks, iothreads, owner: ownerOf(xml) };
  throw new ChainkeepError('SOURCE_INVALID', `the domain ${name} has no disk that is written to`, {
    advice: 'removable and read-only drives are left out',
    context: { domain: name },
  });
}

function isDisk(disk: XmlElement): boolean {
  const device = disk.attributes.device ?? 'disk';
  return device === 'disk' && childrenOf(disk, 'readonly').length === 0 && childrenOf(disk, 'transient').length === 0;
}

function describe(disk: XmlElement, number: number): DomainDisk {
  const name = childrenOf(disk, 'target')[0]?.attributes.dev;
  if (name === undefined) {
    throw new ChainkeepError('HYPERVISOR_FAILED', `libvirt does not name disk ${number} of the domain`, {
      advice: 'look at: virsh dumpxml DOMAIN',
    });
  }
  const source = childrenOf(disk, 'source')[0]?.attributes ?? {};
  const file = source.file ?? source.dev ?? source.name ?? source.volume ?? disk.attributes.type ?? '';
  return { number, name, file, keepsBitmaps: childrenOf(disk, 'driver')[0]?.attributes.type === 'qcow2' };
}

/** `<seclabel model='dac'><label>+64055:+109</label>` */
function ownerOf(xml: XmlElement): FileOwner | undefined {
  const label = childrenOf(xml, 'seclabel').find(({ attributes }) => attributes.model === 'dac');
  const [, uid, gid] = /^\+(\d+):\+(\d+)$/.exec(label ? (childrenOf(label, 'label')[0]?.text ?? '') : '') ?? [];
  return uid === undefined ? undefined : { uid: Number(uid), gid: Number(gid) };
}

/** Of the QEMU that libvirt starts: `7.2.22`; empty where it does not say. */
export async function readQemuVersion(): Promise<string> {
  return /^Running hypervisor: QEMU ([\d.]+)/m.exec(await virsh('version'))?.[1] ?? '';
}

/** Bytes. */
export async function readDiskSize(domain: string, disk: string): Promise<number> {
  const info = await virsh('domblkinfo', domainOption(domain), '--device', disk);
  return Number(/^Capacity:\s+(\d+)$/m.exec(info)?.[1] ?? 0);
}

/** The scratch files of the backup that the domain is in; undefined where it is in none. */
export async function readRunningBackup(domain: string): Promise<readonly string[] | undefined> {
  let text: string;
  try {
    text = await virsh('backup-dumpxml', domainOption(domain));
  } catch (error) {
    if (isChainkeepError(error, 'HYPERVISOR_FAILED') && /no domain backup job present/i.test(String(error.context.said))) return undefined;
    throw error;
  }
  return childrenOf(parseXml(text), 'disks', 'disk', 'scratch').map(({ attributes }) => attributes.file ?? '');
}

const ENDED_WITHIN_MS = 30_000;
const LOOK_EVERY_MS = 50;

/** Resolves when libvirt is done with the files of the backup, too: it gives them back to their owners. */
export async function endRunningBackup(domain: string): Promise<void> {
  await virsh('domjobabort', domainOption(domain));
  for (let waited = 0; await readRunningBackup(domain); waited += LOOK_EVERY_MS) {
    if (waited > ENDED_WITHIN_MS) {
      throw new ChainkeepError('HYPERVISOR_FAILED', `libvirt does not end the backup of the domain ${domain}`, {
        advice: 'the next backup of it tries it again',
        context: { domain, waited_ms: waited },
      });
    }
    await sleep(LOOK_EVERY_MS);
  }
}

export async function listCheckpoints(domain: string): Promise<readonly string[]> {
  const names = await virsh('checkpoint-list', domainOption(domain), '--name');
  return names.split('\n').filter((name) => name !== '');
}

function notRunning(name: string, state: string): ChainkeepError {
  return new ChainkeepError('SOURCE_INVALID', `the domain ${name} is not running (${state})`, {
    advice: 'back its disks up as files: chainkeep backup --disk 0=FILE --format qcow2 --vm NAME',
    context: { domain: name, state },
  });
}
