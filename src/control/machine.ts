// Which machine this is and since when it runs, as the clocks need it.

import type { Catalog } from '../catalog/catalog.ts';
import { currentOwner } from './owner.ts';

export interface Machine {
  /** Machine id and host name: cloned machines often share the first. */
  readonly id: string;
  readonly bootId: string | null;
}

export async function currentMachine(catalog: Catalog): Promise<Machine> {
  const { machine_id, hostname, boot_id } = await currentOwner(catalog);
  return { id: `${machine_id ?? 'unknown'} ${hostname}`, bootId: boot_id };
}
