// Where a disk is written to, as a person names it: a new file, one that may be replaced, or a block device.
// Decides and refuses before anything is touched; never takes a path for something else than it is.

import { lstatSync, realpathSync, statSync } from 'node:fs';
import { ChainkeepError, systemCode } from '../plumbing/errors.ts';
import { openDeviceWriter } from './device-writer.ts';
import type { DiskWriter } from './disk-writer.ts';
import { createFileWriter, targetError } from './file-writer.ts';

export interface TargetRequest {
  readonly path: string;
  readonly format: 'raw' | 'qcow2';
  /** A file may be replaced, a device overwritten. */
  readonly force: boolean;
}

export type TargetKind = 'new file' | 'existing file' | 'device';

/** Throws TARGET_EXISTS where `force` is needed, TARGET_INVALID where nothing can be written. */
export function inspectTarget({ path, format, force }: TargetRequest): TargetKind {
  const kind = kindOf(path);
  const context = { target: path };
  if (kind === 'device' && format !== 'raw') {
    throw new ChainkeepError('TARGET_INVALID', `a device takes a raw disk, not ${format}`, {
      advice: 'choose the format raw, or a file',
      context,
    });
  }
  if (kind === 'device' && !force) {
    const advice = 'everything on it would be overwritten: say --force if that is what you want';
    throw new ChainkeepError('TARGET_EXISTS', `${path} is a device`, { advice, context });
  }
  if (kind === 'existing file' && !force) {
    const advice = 'choose another name, or replace it with --force';
    throw new ChainkeepError('TARGET_EXISTS', `${path} is there already`, { advice, context });
  }
  return kind;
}

/**
 * A writer for a disk of `size` bytes; an image file grows as it is written. `onPartial` hears the temporary name of a new file.
 * Throws what `inspectTarget` throws, TARGET_TOO_SMALL, and TARGET_INVALID where it cannot be made.
 */
export async function openTarget(request: TargetRequest, size: number, onPartial?: (path: string) => Promise<void>): Promise<DiskWriter> {
  const kind = inspectTarget(request);
  if (kind === 'device') return openDeviceWriter(request.path, size);
  // Behind a link the file is replaced, not the link.
  const path = kind === 'existing file' ? realpathSync(request.path) : request.path;
  const options = { size: request.format === 'raw' ? size : 0, replace: request.force, ...(onPartial && { onPartial }) };
  return createFileWriter(path, options);
}

function kindOf(path: string): TargetKind {
  const context = { target: path };
  try {
    const stat = statSync(path);
    if (stat.isBlockDevice()) return 'device';
    if (stat.isFile()) return 'existing file';
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw targetError(path, error);
    if (isLink(path)) {
      throw new ChainkeepError('TARGET_INVALID', `${path} is a link that leads nowhere`, {
        advice: 'name a new file, or mend the link',
        context,
      });
    }
    if (!path.endsWith('/')) return 'new file';
    throw new ChainkeepError('TARGET_INVALID', `${path} is a folder that does not exist`, { advice: 'name a new file', context });
  }
  throw new ChainkeepError('TARGET_INVALID', `${path} is neither a file nor a block device`, {
    advice: 'name a new file, or a device with --force',
    context,
  });
}

function isLink(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() ?? false;
}
