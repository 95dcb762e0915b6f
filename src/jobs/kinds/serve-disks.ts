// The NBD server of a job: where it listens, what it gives under names that nobody guesses, and what the job log hears of it.
// It must not know what the disks are for.

import { randomBytes } from 'node:crypto';
import type { ServedDisk, ServingPlace } from '../../app-interface.ts';
import { describeAddress } from '../../nbd/client/address.ts';
import type { NbdExport } from '../../nbd/server/nbd-export.ts';
import { openNbdServer } from '../../nbd/server/nbd-server.ts';
import { readServerTls } from '../../nbd/server/server-tls.ts';
import { isChainkeepError } from '../../plumbing/errors.ts';
import type { JobContext } from '../job.ts';

export interface DiskToServe extends Omit<NbdExport, 'name'> {
  readonly diskId: number;
}

/** Serves the disks while `use` runs; nothing is at work on them any more afterwards. What clients have asked for before is still answered. */
export async function withServedDisks<T>(
  job: JobContext,
  { listen, tls_certificates: certificates, plaintext }: ServingPlace,
  disks: readonly DiskToServe[],
  use: (served: readonly ServedDisk[]) => Promise<T>,
): Promise<T> {
  const tls = certificates === undefined ? {} : { tls: await readServerTls(certificates) };
  // Whoever knows the name may use the disk.
  const exports = disks.map((disk) => ({ ...disk, name: randomBytes(16).toString('hex') }));
  const server = await openNbdServer({
    ...{ listen, plaintext, ...tls, exports },
    onProblem: (error) => {
      const message = error instanceof Error ? error.message : String(error);
      job.logger.log('warn', `export: ${message}`, isChainkeepError(error) ? { code: error.code, ...error.context } : {});
    },
  });
  try {
    // A kill leaves the socket; whoever settles this job removes it.
    if (server.address.kind === 'unix') await job.setMetadata({ socket: server.address.path });
    const place = server.address;
    return await use(
      exports.map(({ diskId, name, disk }) => ({
        disk_id: diskId,
        address: describeAddress({ place, exportName: name, ...(tls.tls && { tls: {} }) }),
        total_bytes: disk.size,
      })),
    );
  } finally {
    await server.close();
  }
}
