// Opens a running machine with all of its disks, as they are in one moment.

import type { OpenedSource } from './open-source.ts';

export interface VmRequest {
  /** `qmp:SOCKET` or `libvirt:DOMAIN` */
  readonly address: string;
  /** Folder for what the guest overwrites during the backup. */
  readonly scratch?: string | undefined;
  /** Socket of the guest agent, where QEMU does not know it. */
  readonly guestAgent?: string | undefined;
  /** The change id that the next backup of a disk would begin at, as far as it is known before the disk is taken. */
  readonly parentMark: (diskId: number) => Promise<string | undefined>;
  /** Only looks: nothing in the machine is touched, and no disk can be read. */
  readonly isPlanOnly: boolean;
  readonly onNotice: (notice: string) => void;
  readonly signal?: AbortSignal | undefined;
}

export interface OpenedVm {
  readonly disks: readonly {
    readonly diskId: number;
    /** Of the disk in the machine. */
    readonly name: string;
    /** For people: name and file. */
    readonly place: string;
    readonly source: OpenedSource;
  }[];
  /** After the readers of all disks are closed: gives everything back to the machine. Never throws; what goes wrong is a notice. */
  close(): Promise<void>;
}

export function isVmAddress(text: string): boolean {
  return /^(qmp|libvirt):/.test(text);
}

/** Throws what the kind of machine throws; nothing is left in it then. */
export async function openVm(request: VmRequest): Promise<OpenedVm> {
  if (request.address.startsWith('libvirt:')) {
    const { openLibvirtVm } = await import('./libvirt/open-libvirt-vm.ts');
    return openLibvirtVm(request);
  }
  const { openQmpVm } = await import('./qmp/open-qmp-vm.ts');
  return openQmpVm(request);
}
