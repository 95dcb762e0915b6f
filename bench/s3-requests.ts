// Counts requests of a repository in a bucket: what it takes to open a restore point and read its first byte, and what a quick verify of many backups
// takes. A proxy in front of the server counts, and sees which requests waited for each other.

import { mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openApp } from '../src/app.ts';
import type { App } from '../src/app-interface.ts';
import { systemClock } from '../src/plumbing/clock.ts';
import { silentLogger } from '../src/plumbing/logger.ts';
import { Secret } from '../src/plumbing/secret.ts';
import { openRepository } from '../src/repository/repository.ts';
import { openStore } from '../src/store/registry.ts';
import type { FaultProxy } from '../test/servers/fault-proxy.ts';
import type { S3Address } from '../test/servers/rgw.ts';
import { makeBucket, storeConfig } from '../test/servers/s3-bucket.ts';

const MIB = 2 ** 20;
const DELAY_MS = 40;

export interface Site {
  readonly address: S3Address;
  readonly proxy: FaultProxy;
  readonly folder: string;
}

async function withBackups<T>(
  { address, proxy, folder }: Site,
  count: number,
  use: (app: App, bucket: string, ids: readonly string[]) => Promise<T>,
) {
  const bucket = await makeBucket(address);
  const home = mkdtempSync(join(folder, 'requests-'));
  const app = await openApp({ home: join(home, 'home') });
  try {
    const settings = { bucket, endpoint: proxy.endpoint, access_key_id: address.accessKeyId, path_style: true };
    const secrets = { secret_access_key: new Secret(address.secretAccessKey) };
    await app.addRepository({ name: 'bucket', type: 's3', take_over: false, settings, secrets });
    const source = join(home, 'disk.raw');
    const bytes = Buffer.alloc(4 * MIB, 'x');
    const ids: string[] = [];
    for (let index = 0; index < count; index += 1) {
      bytes.writeUInt32LE(index + 1, (index % 32) * 65_536 + 65_536);
      writeFileSync(source, bytes);
      const input = { vm: 'vm', disks: [{ disk_id: 0, source }], repository: 'bucket', type: 'auto', compression: 'none' } as const;
      const [outcome] = await app.backup({ ...input, format: 'raw', with_backing: false, dry_run: false }, {});
      ids.push(outcome?.backup_id ?? '');
    }
    return await use(app, bucket, ids);
  } finally {
    await app.close();
  }
}

export function countOpen(site: Site): Promise<readonly string[]> {
  return withBackups(site, 10, async (app, bucket, ids) => {
    const { address, proxy } = site;
    const { repository_id: repositoryId } = await app.showRepository('bucket');
    const [backup] = await app.listBackups({ vm: 'vm' });
    const place = { vmContextId: backup?.vm_context_id ?? '', diskId: 0 };
    const store = await openStore('s3', storeConfig({ ...address, endpoint: proxy.endpoint }, bucket), { create: false });
    const repository = await openRepository({ store, clock: systemClock, logger: silentLogger, repositoryId, installationId: 'bench' });
    const lines: string[] = [];
    for (const [what, hint] of [
      ['with the catalog', ids],
      ['without it', undefined],
    ] as const) {
      proxy.begin();
      proxy.setDelay(DELAY_MS);
      const opened = await repository.openBackup(place, ids.at(-1) ?? '', hint);
      await opened.reader.read(Buffer.alloc(1), 0);
      proxy.setDelay(0);
      lines.push(`${what}: ${proxy.requests.length} requests, ${proxy.depth} in sequence`);
      await opened.close();
    }
    await repository.close();
    return lines;
  });
}

export function countQuickVerify(site: Site, count: number): Promise<readonly string[]> {
  return withBackups(site, count, async (app) => {
    site.proxy.begin();
    const began = performance.now();
    const { checked } = await app.verify({ repository: 'bucket', quick: true }, {});
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    const lists = site.proxy.requests.filter((line) => line.includes('list-type=2')).length;
    return [`${checked} backups: ${lists} pages of one listing, ${site.proxy.requests.length - lists} reads, ${seconds} s`];
  });
}
