// Reads all data of an export and drops it: read-nbd.ts ADDRESS. Started by nbd.ts.

import { openNbdReader } from '../src/nbd/client/nbd-reader.ts';

const WINDOW = 16 << 20;
const disk = await openNbdReader(process.argv[2] ?? '');
const buffer = Buffer.alloc(WINDOW);
for await (const { kind, offset, length } of disk.extents({ offset: 0, length: disk.size })) {
  if (kind !== 'data') continue;
  for (let at = 0; at < length; at += WINDOW) await disk.read(buffer.subarray(0, Math.min(WINDOW, length - at)), offset + at);
}
await disk.close();
