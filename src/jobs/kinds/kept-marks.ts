// Which change ids of a disk a later backup can begin at: that of the newest backup, and that of the chain's full for differentials.

import { buildChains } from '../../repository/chain-rules.ts';
import type { Sidecar } from '../../repository/sidecar-fields.ts';
import type { KeptMarks } from '../../source/open-source.ts';

/** `sidecars`: all backups of one disk in one repository, the new one among them. */
export function keptMarks(sidecars: readonly Sidecar[]): KeptMarks {
  const chain = buildChains(sidecars)[0];
  const needed = [chain?.full, chain?.backups.at(-1)].flatMap((sidecar) => sidecar?.change_id ?? []);
  return { needed: new Set(needed), known: new Set(sidecars.flatMap(({ change_id: mark }) => mark ?? [])) };
}
