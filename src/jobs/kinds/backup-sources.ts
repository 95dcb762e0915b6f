// The sources of one run, opened together: disks that the user named one by one, or all disks of a running machine.

import type { BackupInput } from '../../app-interface.ts';
import type { ChangeTracking } from '../../disk/change-list.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { readChangedExtents } from '../../source/changed-extents.ts';
import { type OpenedSource, openSource } from '../../source/open-source.ts';
import { isVmAddress, openVm } from '../../source/open-vm.ts';

export interface Disk {
  readonly diskId: number;
  /** Where it is, for people. */
  readonly path: string;
  /** As the machine calls it, where the disks are numbered by it: a number stands for the same disk as long as this does not change. */
  readonly nameInVm?: string;
  readonly source: OpenedSource;
}

export interface OpenedDisks {
  readonly disks: readonly Disk[];
  close(): Promise<void>;
}

export interface OpenDisksOptions {
  readonly onNotice: (notice: string) => void;
  /** A running machine is only looked at then. */
  readonly isPlanOnly: boolean;
  /** See VmRequest. */
  readonly parentMark: (diskId: number) => Promise<string | undefined>;
  readonly signal: AbortSignal | undefined;
}

/** The disks of a machine are known when it is opened. */
export function isOfVm(input: BackupInput): boolean {
  return input.disks.some((disk) => isVmAddress(disk.source));
}

/** All of them, or none stays open. */
export async function openDisks(input: BackupInput, options: OpenDisksOptions): Promise<OpenedDisks> {
  const [first] = input.disks;
  if (first && isVmAddress(first.source)) return openVmDisks(first.source, input, options);
  const disks: Disk[] = [];
  const close = async (): Promise<void> => closeReaders(disks);
  try {
    for (const { disk_id: diskId, source: path } of input.disks) {
      const opened = await openSource({
        ...{ path, format: input.format, withBacking: input.with_backing, bitmap: input.bitmap, signal: options.signal },
      });
      disks.push({ diskId, path, source: opened });
      opened.notices.forEach(options.onNotice);
      if (input.changed_extents) disks[0] = { diskId, path, source: { ...opened, changes: await openChangedExtents(input, opened) } };
    }
    if (input.changed_extents && input.change_id === undefined)
      options.onNotice('no --change-id is given: what changed after this backup cannot be listed for the next one');
    return { disks, close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function openVmDisks(address: string, { scratch, guest_agent }: BackupInput, options: OpenDisksOptions): Promise<OpenedDisks> {
  const vm = await openVm({ address, scratch, guestAgent: guest_agent, ...options });
  const disks = vm.disks.map(({ diskId, name, place, source }) => ({ diskId, path: place, nameInVm: name, source }));
  return {
    disks,
    close: async () => {
      await closeReaders(disks);
      await vm.close();
    },
  };
}

async function openChangedExtents({ changed_extents: list }: BackupInput, { reader }: OpenedSource): Promise<ChangeTracking | undefined> {
  return list && readChangedExtents({ path: list.path, sinceChangeId: list.since_change_id, diskBytes: reader.size });
}

async function closeReaders(disks: readonly Disk[]): Promise<void> {
  await Promise.all(disks.map((disk) => disk.source.reader.close()));
}

/** A machine keeps its own bitmaps, of all of its disks. */
export function checkVmInput(input: BackupInput): void {
  if (!isOfVm(input)) {
    if (input.scratch === undefined && input.guest_agent === undefined) return;
    throw invalid('a scratch folder and a guest agent are only of use for a running machine', 'leave them out');
  }
  if (input.guest_agent !== undefined && input.disks[0]?.source.startsWith('libvirt:'))
    throw invalid('libvirt reaches the agent of a guest by itself', 'leave --guest-agent out');
  if (input.disks.length > 1) throw invalid('a running machine brings all of its disks', 'name it alone, without --disk');
  if (input.format !== 'raw' || input.with_backing)
    throw invalid('the disks of a running machine have no other format than raw', 'leave --format and --with-backing out');
  if (input.bitmap ?? input.change_id ?? input.changed_extents)
    throw invalid('a running machine keeps bitmaps and change ids by itself', 'leave --bitmap, --change-id and --changed-extents out');
}

function invalid(what: string, advice: string): ChainkeepError {
  return new ChainkeepError('CONFIG_INVALID', what, { advice });
}
