// `npm run bench:s3`: what a repository in a bucket costs, against the vendor's own client, on a Ceph gateway started for it (or CHAINKEEP_TEST_S3_URL).
// Options: --data 512 (MiB) --runs 3 --backups 200 --only upload,download,open,memory,quick. Nothing fails on time: it prints ratios.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { DeleteObjectCommand } from '@aws-sdk/client-s3';
import { FaultProxy } from '../test/servers/fault-proxy.ts';
import { givenS3, type S3Address, startRgw } from '../test/servers/rgw.ts';
import { makeBucket, vendorClient } from '../test/servers/s3-bucket.ts';
import { compare, measure, type Sample } from './measure.ts';
import { countOpen, countQuickVerify, type Site } from './s3-requests.ts';
import { AT_ONCE, PART_BYTES } from './s3-vendor.ts';

const MIB = 2 ** 20;
const LAUNCHER = fileURLToPath(new URL('../chainkeep', import.meta.url));
const VENDOR = fileURLToPath(new URL('./s3-vendor.ts', import.meta.url));
const PUMP = fileURLToPath(new URL('./s3-pump.ts', import.meta.url));

const { values } = parseArgs({
  options: {
    data: { type: 'string', default: '512' },
    runs: { type: 'string', default: '3' },
    backups: { type: 'string', default: '200' },
    only: { type: 'string', default: 'upload,download,open,memory,quick' },
  },
});
const only = values.only.split(',');
const bytes = Number.parseInt(values.data, 10) * MIB;

/** Data that does not compress, all of it different. */
function makeData(path: string): void {
  const block = Buffer.alloc(bytes);
  let state = 1;
  for (let at = 0; at < bytes; at += 4) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    block.writeUInt32LE((state ^ at) >>> 0, at);
  }
  writeFileSync(path, block);
}

function say(name: string, goal: string, lines: readonly string[]): void {
  console.log(`\n${name}: ${goal}`);
  for (const line of lines) console.log(`  ${line}`);
}

const rate = (seconds: number): string => `${(bytes / 1e6 / seconds).toFixed(0)} MB/s`;

interface Duel {
  readonly address: S3Address;
  readonly bucket: string;
  readonly folder: string;
  readonly env: Readonly<Record<string, string>>;
  readonly data: string;
}

const vendorEnv = ({ address }: Duel): Readonly<Record<string, string>> => ({
  BENCH_S3_ENDPOINT: address.endpoint,
  BENCH_S3_KEY: address.accessKeyId,
  BENCH_S3_SECRET: address.secretAccessKey,
});

async function setDuel(address: S3Address, folder: string): Promise<Duel> {
  const duel = {
    address,
    bucket: await makeBucket(address),
    folder,
    env: { CHAINKEEP_HOME: join(folder, 'home') },
    data: join(folder, 'data'),
  };
  makeData(duel.data);
  writeFileSync(join(folder, 'secret'), address.secretAccessKey, { mode: 0o600 });
  const settings = { bucket: duel.bucket, endpoint: address.endpoint, access_key_id: address.accessKeyId, path_style: 'true' };
  const parts = { upload_part_size_mib: String(PART_BYTES / MIB), upload_concurrency: String(AT_ONCE) };
  const set = Object.entries({ ...settings, ...parts }).flatMap(([name, value]) => ['--set', `${name}=${value}`]);
  const secret = ['--secret', `secret_access_key=file:${join(folder, 'secret')}`];
  await measure([LAUNCHER, 'repo', 'add', 'bucket', '--type', 's3', ...set, ...secret], duel.env);
  return duel;
}

const chainkeep = ({ env }: Duel, ...args: readonly string[]): Promise<Sample> => measure([LAUNCHER, ...args], env);

async function benchUpload(duel: Duel): Promise<void> {
  const { bucket, data } = duel;
  const vendor = vendorClient(duel.address);
  const backup = (): Promise<Sample> =>
    chainkeep(duel, 'backup', data, '--vm', 'vm', '--repo', 'bucket', '--compression', 'none', '--type', 'full');
  const [theirs, ours] = await compare(
    [
      {
        name: 'vendor',
        run: () => measure([process.execPath, VENDOR, 'upload', data, bucket, 'vendor'], vendorEnv(duel)),
        after: () => vendor.send(new DeleteObjectCommand({ Bucket: bucket, Key: 'vendor' })).then(() => undefined),
      },
      { name: 'chainkeep', run: backup, after: () => chainkeep(duel, 'delete', 'latest', '--vm', 'vm').then(() => undefined) },
    ],
    Number(values.runs),
  );
  if (!theirs || !ours) throw new Error('nothing was measured');
  const share = ((100 * theirs.seconds) / ours.seconds).toFixed(0);
  say('upload', 'backup at least 80 % of the rate of the vendor client with the same bytes, part size and parallelism', [
    `vendor ${theirs.seconds.toFixed(2)} s (${rate(theirs.seconds)}), chainkeep ${ours.seconds.toFixed(2)} s (${rate(ours.seconds)}): ${share} %`,
    `peak memory: vendor ${theirs.peakMiB.toFixed(0)} MiB, chainkeep ${ours.peakMiB.toFixed(0)} MiB`,
  ]);
}

async function benchDownload(duel: Duel): Promise<void> {
  const { bucket, data, folder } = duel;
  const target = join(folder, 'back');
  await chainkeep(duel, 'backup', data, '--vm', 'vm', '--repo', 'bucket', '--compression', 'none', '--type', 'full');
  await measure([process.execPath, VENDOR, 'upload', data, bucket, 'vendor'], vendorEnv(duel));
  const after = (): void => rmSync(target);
  const [theirs, ours] = await compare(
    [
      { name: 'vendor', run: () => measure([process.execPath, VENDOR, 'download', bucket, 'vendor', target], vendorEnv(duel)), after },
      { name: 'chainkeep', run: () => chainkeep(duel, 'restore', 'latest', target, '--vm', 'vm'), after },
    ],
    Number(values.runs),
  );
  if (!theirs || !ours) throw new Error('nothing was measured');
  const share = ((100 * theirs.seconds) / ours.seconds).toFixed(0);
  say('download', 'restore, every cluster checked, at least 80 % of the rate of the vendor client', [
    `vendor ${theirs.seconds.toFixed(2)} s (${rate(theirs.seconds)}), chainkeep ${ours.seconds.toFixed(2)} s (${rate(ours.seconds)}): ${share} %`,
    `peak memory: vendor ${theirs.peakMiB.toFixed(0)} MiB, chainkeep ${ours.peakMiB.toFixed(0)} MiB`,
  ]);
}

/** The store itself, told that the blob may become that large: so large are its parts. */
async function benchMemory({ address, bucket }: Duel): Promise<void> {
  const lines: string[] = [];
  for (const most of [100, 600]) {
    const { peakMiB } = await measure([process.execPath, PUMP, bucket, String(most), String(bytes)], {
      BENCH_S3_ENDPOINT: address.endpoint,
      BENCH_S3_KEY: address.accessKeyId,
      BENCH_S3_SECRET: address.secretAccessKey,
    });
    lines.push(`a blob of up to ${most} GiB: ${peakMiB.toFixed(0)} MiB`);
  }
  say('memory', 'peak of the whole process under 400 MiB up to 600 GiB stored', lines);
}

async function benchRequests(address: S3Address, folder: string): Promise<void> {
  const proxy = await FaultProxy.open(address.endpoint);
  const site: Site = { address, proxy, folder };
  try {
    if (only.includes('open'))
      say('open', 'at most 3 requests for each image and one, at most 4 in sequence, for a chain of 10', await countOpen(site));
    if (only.includes('quick')) {
      say('quick', 'verify --quick: one listing and one small read for each backup', await countQuickVerify(site, Number(values.backups)));
    }
  } finally {
    await proxy.close();
  }
}

const given = givenS3();
const server = given ? undefined : await startRgw();
const address = given ?? server?.address;
const folder = mkdtempSync('/dev/shm/chainkeep-bench-s3-');
try {
  if (!address) throw new Error('there is no server');
  if (only.some((name) => ['upload', 'download', 'memory'].includes(name))) {
    const duel = await setDuel(address, folder);
    if (only.includes('upload')) await benchUpload(duel);
    if (only.includes('download')) await benchDownload(duel);
    if (only.includes('memory')) await benchMemory(duel);
  }
  await benchRequests(address, folder);
} finally {
  rmSync(folder, { recursive: true, force: true });
  await server?.stop();
}
