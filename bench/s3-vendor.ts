// The vendor's own client as the opponent of bench/s3.ts: `upload FILE BUCKET KEY` with lib-storage, `download BUCKET KEY FILE` with ranged reads,
// both in parts of the same size and as many at the same time as our store.

import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { GetObjectCommand, HeadObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';

export const PART_BYTES = 16 * 2 ** 20;
export const AT_ONCE = 4;

const { BENCH_S3_ENDPOINT: endpoint = '', BENCH_S3_KEY: accessKeyId = '', BENCH_S3_SECRET: secretAccessKey = '' } = process.env;

function connect(): S3Client {
  return new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials: { accessKeyId, secretAccessKey } });
}

async function upload(file: string, Bucket: string, Key: string): Promise<void> {
  const Body = createReadStream(file, { highWaterMark: 2 ** 20 });
  await new Upload({ client: connect(), params: { Bucket, Key, Body }, partSize: PART_BYTES, queueSize: AT_ONCE }).done();
}

async function download(Bucket: string, Key: string, file: string): Promise<void> {
  const client = connect();
  const { ContentLength: size = 0 } = await client.send(new HeadObjectCommand({ Bucket, Key }));
  const handle = await open(file, 'w');
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let at = next; at < size; at = next) {
      next = at + PART_BYTES;
      const Range = `bytes=${at}-${Math.min(size, next) - 1}`;
      const { Body } = await client.send(new GetObjectCommand({ Bucket, Key, Range }));
      await handle.write((await Body?.transformToByteArray()) ?? new Uint8Array(0), undefined, undefined, at);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  await handle.close();
}

if (import.meta.main) {
  const [what, first = '', second = '', third = ''] = process.argv.slice(2);
  if (what === 'upload') await upload(first, second, third);
  else await download(first, second, third);
}
