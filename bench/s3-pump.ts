// Writes BYTES into a blob that may become GIB large, and gives it up: `node bench/s3-pump.ts BUCKET GIB BYTES`. For its peak memory.

import { Secret } from '../src/plumbing/secret.ts';
import { openStore } from '../src/store/registry.ts';

const { BENCH_S3_ENDPOINT: endpoint, BENCH_S3_KEY: access_key_id, BENCH_S3_SECRET: secret = '' } = process.env;
const [bucket, gib, bytes] = process.argv.slice(2);
const store = await openStore(
  's3',
  { bucket, endpoint, access_key_id, secret_access_key: new Secret(secret), path_style: true },
  { create: false },
);
const sink = await store.put('pump', { headLength: 65_536, mostBytes: Number(gib) * 2 ** 30, ifAbsent: true });
const run = Buffer.alloc(2 ** 20, 'x');
for (let sent = 0; sent < Number(bytes); sent += run.length) await sink.append([run]);
await sink.abort();
await store.close();
