// `node bench/rescan.ts [--backups 10000] [--disks 100] [--at DIR]`: how long `repo rescan` takes on an empty catalog and on one that is right, and how
// much memory it needs at its peak. The sidecars are real ones, sealed as the product does; images and digests are empty files.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { loadBlake3 } from '../src/plumbing/blake3.ts';
import { isoTime, newId, systemClock } from '../src/plumbing/clock.ts';
import { diskFolder, imageFile, sidecarFile } from '../src/repository/layout.ts';
import { encodeSidecar } from '../src/repository/sidecar.ts';
import type { Sidecar } from '../src/repository/sidecar-fields.ts';
import { sh } from './disk.ts';
import { measure } from './measure.ts';

const CHAINKEEP = fileURLToPath(new URL('../chainkeep', import.meta.url));
const CHAIN = 50;

const { values } = parseArgs({
  options: {
    backups: { type: 'string', default: '10000' },
    disks: { type: 'string', default: '100' },
    at: { type: 'string', default: tmpdir() },
  },
});

function describe(vmContextId: string, parent: Sidecar | undefined): Sidecar {
  const id = newId(systemClock);
  const now = isoTime(systemClock.now());
  return {
    ...{
      format: 1,
      backup_id: id,
      restore_point_id: id,
      vm_context_id: vmContextId,
      vm_name: `vm ${vmContextId}`,
      external_id: null,
      disk_id: 0,
    },
    ...{ backup_type: parent ? 'incremental' : 'full', parent_backup_id: parent?.backup_id ?? null },
    ...{ parent_content_root: parent?.content_root ?? null, content_root: Buffer.from(id.padEnd(32)).toString('hex').slice(0, 64) },
    ...{ chain_id: parent?.chain_id ?? id, origin_repository_id: null, change_id: null, size_bytes: 0, total_bytes: 2 ** 35 },
    ...{ started_at: now, created_at: now, completed_at: now, bytes_read: 2 ** 30, source: 'file', policy_id: null },
    qcow2: { virtual_size: 2 ** 35, cluster_size: 65_536, compression: 'zstd', generation: 1 },
    digests: { name: `${id}.1.digests`, algorithm: 'blake3', root: 'a'.repeat(64), structure: 'b'.repeat(64) },
    metadata: {},
    tool: 'chainkeep/bench',
  };
}

async function fill(repository: string, backups: number, disks: number): Promise<void> {
  const blake3 = await loadBlake3();
  for (let disk = 0; disk < disks; disk++) {
    const vmContextId = newId(systemClock);
    const folder = join(repository, diskFolder({ vmContextId, diskId: 0 }));
    mkdirSync(folder, { recursive: true });
    let parent: Sidecar | undefined;
    for (let count = 0; count < backups / disks; count++) {
      parent = describe(vmContextId, count % CHAIN === 0 ? undefined : parent);
      writeFileSync(join(folder, sidecarFile(parent.backup_id)), encodeSidecar(blake3, parent));
      writeFileSync(join(folder, imageFile(parent.backup_id)), '');
      writeFileSync(join(folder, parent.digests.name), '');
    }
  }
}

const scratch = mkdtempSync(join(values.at, 'chainkeep-rescan-'));
try {
  const home = { CHAINKEEP_HOME: join(scratch, 'home') };
  const repository = join(scratch, 'repository');
  sh(`${CHAINKEEP} --quiet repo add r --path ${repository}`, home);
  await fill(repository, Number(values.backups), Number(values.disks));
  for (const what of ['an empty catalog', 'one that is right already']) {
    const { seconds, peakMiB } = await measure([CHAINKEEP, '--quiet', 'repo', 'rescan', 'r'], home);
    console.log(
      `${values.backups} backups of ${values.disks} disks into ${what}: ${seconds.toFixed(1)} s, ${Math.round(peakMiB)} MiB at the peak`,
    );
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
