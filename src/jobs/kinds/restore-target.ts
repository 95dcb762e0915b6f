// Where a restore goes, as a person names it: a file, a device, an NBD export. Refuses before anything is touched.

import { resolve } from 'node:path';
import type { RestoreInput } from '../../app-interface.ts';
import type { DiskWriter } from '../../disk/disk-writer.ts';
import { inspectTarget, openTarget } from '../../disk/open-target.ts';
import { describeAddress, isNbdAddress, parseNbdAddress } from '../../nbd/client/address.ts';
import { openNbdWriter } from '../../nbd/client/nbd-writer.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { realPlace } from '../../plumbing/real-place.ts';
import { findWriter } from '../../source/image-locks.ts';
import type { JobEnvironment } from './job-environment.ts';

export interface RestoreTarget {
  /** As it may be shown. */
  readonly name: string;
  /** Is it there before, and written in place? A restore that fails leaves it neither old nor new. */
  readonly inPlace: boolean;
  /** `onPartial` hears the temporary name of a new file. Throws what `openTarget` and `openNbdWriter` throw. */
  open(size: number, onPartial: (path: string) => Promise<void>, signal: AbortSignal): Promise<DiskWriter>;
}

/** Throws TARGET_EXISTS where `force` is needed, TARGET_INVALID where nothing may be written, CONFIG_INVALID for an address that is none. */
export async function chooseTarget(environment: JobEnvironment, input: RestoreInput): Promise<RestoreTarget> {
  if (isNbdAddress(input.target)) return exportTarget(input);
  const kind = inspectTarget({ ...input, path: input.target });
  const path = resolve(input.target);
  if (kind !== 'new file') refuseRunning(path);
  if (kind !== 'device') await refuseRepositories(environment, path);
  return { name: path, inPlace: kind === 'device', open: (size, onPartial) => openTarget({ ...input, path }, size, onPartial) };
}

function exportTarget({ target, format, force }: RestoreInput): RestoreTarget {
  const name = describeAddress(parseNbdAddress(target));
  const context = { target: name };
  if (format !== 'raw') {
    const advice = 'choose the format raw, or a file';
    throw new ChainkeepError('TARGET_INVALID', `an export takes a raw disk, not ${format}`, { advice, context });
  }
  if (!force) {
    const advice = 'everything on it would be overwritten: say --force if that is what you want';
    throw new ChainkeepError('TARGET_EXISTS', `${name} is an export`, { advice, context });
  }
  return { name, inPlace: true, open: (size, _onPartial, signal) => openNbdWriter(target, { size, signal }) };
}

/** The VM would go on writing: into a file that has no name any more, or into the middle of what was restored. */
function refuseRunning(target: string): void {
  const writer = findWriter(target);
  if (writer === undefined) return;
  throw new ChainkeepError('TARGET_INVALID', `${target} is open for writing in a running VM (${writer})`, {
    advice: 'shut the VM down, or restore to another place',
    context: { target },
  });
}

/** What lies in a repository is somebody's backup; a restore over it would destroy what it reads. */
async function refuseRepositories({ repositories }: JobEnvironment, target: string): Promise<void> {
  const place = await realPlace(target);
  const paths = (await repositories.listRepositories()).map(async ({ name, config }) => ({
    name,
    path: typeof config.path === 'string' ? await realPlace(config.path) : undefined,
  }));
  for (const { name, path } of await Promise.all(paths)) {
    if (path === undefined || !`${place}/`.startsWith(`${path}/`)) continue;
    throw new ChainkeepError('TARGET_INVALID', `${target} lies in the repository ${name}`, {
      advice: 'choose a place outside of the repositories',
      context: { target, repository: name },
    });
  }
}
