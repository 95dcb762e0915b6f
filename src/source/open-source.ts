// Opens what is backed up as a disk: a file, a block device, an image, an NBD export. The format is what was said, never guessed.

import { type BigIntStats, statSync } from 'node:fs';
import type { ChangeTracking } from '../disk/change-list.ts';
import type { DiskReader } from '../disk/disk-reader.ts';
import { overlay } from '../disk/overlay.ts';
import { openRawReader } from '../disk/raw-file-reader.ts';
import { isNbdAddress } from '../nbd/client/address.ts';
import { ChainkeepError, isChainkeepError } from '../plumbing/errors.ts';
import { openFileSource, statDescriptor, unreadable } from '../plumbing/file-source.ts';
import { openImageFile } from '../qcow2/open-image-file.ts';
import { findWriter } from './image-locks.ts';
import { openNbdSource } from './nbd-source.ts';

export interface SourceRequest {
  /** Absolute path, or the address of an NBD export. */
  readonly path: string;
  readonly format: 'raw' | 'qcow2';
  readonly withBacking: boolean;
  /** Of an export: the dirty bitmap that says what changed. */
  readonly bitmap?: string | undefined;
  /** For sources over a network: ends them for good. */
  readonly signal?: AbortSignal | undefined;
}

export interface OpenedSource {
  readonly reader: DiskReader;
  /** For the sidecar. */
  readonly kind: 'file' | 'device' | 'qcow2' | 'nbd' | 'qmp' | 'libvirt' | 'push';
  /** What a person should know of it. */
  readonly notices: readonly string[];
  /** Where it knows by itself what changed since another backup. */
  readonly changes?: ChangeTracking;
  /** The change id to keep the backup with, where none was given: from this state on the source will be able to tell what changed. */
  readonly mark?: string;
  /** Told when a backup of it is committed: what it keeps for later ones may be tidied up. */
  kept?(marks: KeptMarks): Promise<void>;
  /** Throws SOURCE_CHANGED when it has not the size any more that it had when it was opened. */
  checkUnchanged(): Promise<void>;
}

/** Change ids of the backups of a disk in one repository. */
export interface KeptMarks {
  /** Those that a later backup can begin at. */
  readonly needed: ReadonlySet<string>;
  /** All of them. */
  readonly known: ReadonlySet<string>;
}

export async function openSource(request: SourceRequest): Promise<OpenedSource> {
  if (/^(qmp|libvirt):/.test(request.path)) {
    throw new ChainkeepError('SOURCE_INVALID', `${request.path} is a virtual machine, and one of its disks was asked for`, {
      advice: 'back it up as a whole: chainkeep backup qmp:SOCKET --vm NAME, or libvirt:DOMAIN',
    });
  }
  if (isNbdAddress(request.path)) return openExport(request);
  if (request.bitmap !== undefined) {
    throw new ChainkeepError('CONFIG_INVALID', `a dirty bitmap is one of an NBD export, and ${request.path} is none`, {
      advice: 'serve the image with its bitmap: qemu-nbd --read-only --format qcow2 --bitmap NAME IMAGE',
    });
  }
  return request.format === 'raw' ? openRawSource(request.path) : openQcow2Source(request);
}

function openExport({ path, format, bitmap, signal }: SourceRequest): Promise<OpenedSource> {
  if (format === 'raw') return openNbdSource(path, { bitmap, signal });
  throw new ChainkeepError('SOURCE_INVALID', `an export is a disk: its format is raw, not ${format}`, {
    advice: 'serve the image as a disk (qemu-nbd -f qcow2), and leave --format out',
  });
}

const QCOW2_MAGIC = 0x514649fb;

async function openRawSource(path: string): Promise<OpenedSource> {
  const source = await openFileSource(path);
  const { fd = -1, size } = source;
  const device = statDescriptor(path, fd).isBlockDevice();
  const notices: string[] = [];
  if (size >= 4) {
    const first = Buffer.alloc(4);
    await source.read(first, 0);
    // A guest can write such a header into its own disk, so this is a notice and no reason to read it in another way.
    if (first.readUInt32BE(0) === QCOW2_MAGIC)
      notices.push(`${path} begins like a QCOW2 image and is backed up as raw bytes; for its disk say --format qcow2`);
  }
  const writer = findWriter(path);
  if (writer) notices.push(`${path} is open for writing in a running VM (${writer}): the backup may hold a state between two moments`);
  return {
    reader: openRawReader(source),
    kind: device ? 'device' : 'file',
    notices,
    checkUnchanged: async () => {
      const now = device ? await deviceSizeNow(path) : statDescriptor(path, fd).size;
      if (now !== size) throw changed(path, size, now);
    },
  };
}

async function deviceSizeNow(path: string): Promise<number> {
  const again = await openFileSource(path);
  await again.close();
  return again.size;
}

async function openQcow2Source({ path, withBacking }: SourceRequest): Promise<OpenedSource> {
  refuseRunning(path);
  try {
    const { layers, warnings } = await openImageFile(path, 'qcow2', withBacking ? 'same-folder' : 'refuse');
    const reader = overlay(layers);
    try {
      for (const backing of layers.slice(1)) refuseRunning(backing.name);
      const files = layers.map(({ name }) => ({ name, stamp: stampOf(name) }));
      return { reader, kind: 'qcow2', notices: warnings, checkUnchanged: async () => files.forEach(refuseChanged) };
    } catch (error) {
      await reader.close();
      throw error;
    }
  } catch (error) {
    if (!isChainkeepError(error, 'QCOW2_INVALID')) throw error;
    throw new ChainkeepError('SOURCE_INVALID', `${path} is not a usable QCOW2 image: ${error.message.replace(`${path}: `, '')}`, {
      advice: 'say --format raw for a raw disk; look at the image with: chainkeep image check',
      context: { path },
      cause: error,
    });
  }
}

/** Tables that change while they are read give a disk that never was. */
function refuseRunning(path: string): void {
  const writer = findWriter(path);
  if (writer === undefined) return;
  throw new ChainkeepError('SOURCE_INVALID', `${path} is open for writing in a running VM (${writer})`, {
    advice: 'shut the VM down, or back up a snapshot of the image',
    context: { path },
  });
}

interface Stamp {
  readonly size: number;
  readonly written: bigint;
}

/** Of a file that is gone meanwhile: no bytes, never written. */
function stampOf(path: string): Stamp {
  let stat: BigIntStats | undefined;
  try {
    stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  } catch (error) {
    throw unreadable(path, error, {});
  }
  return { size: Number(stat?.size ?? 0n), written: stat?.mtimeNs ?? 0n };
}

/** Also an image that kept its size was changed when it was written to: a VM may have been started meanwhile. */
function refuseChanged({ name, stamp }: { readonly name: string; readonly stamp: Stamp }): void {
  const now = stampOf(name);
  if (now.size !== stamp.size) throw changed(name, stamp.size, now.size);
  if (now.written === stamp.written) return;
  throw new ChainkeepError('SOURCE_CHANGED', `${name} was written to while it was backed up`, {
    advice: 'nothing was committed; shut the VM down first, or back up a snapshot of the image',
    context: { path: name },
  });
}

function changed(path: string, before: number, now: number): ChainkeepError {
  return new ChainkeepError('SOURCE_CHANGED', `${path} had ${before} bytes when the backup began and has ${now} now`, {
    advice: 'nothing was committed; back the disk up while nothing resizes it',
    context: { path, size_before: before, size_now: now },
  });
}
