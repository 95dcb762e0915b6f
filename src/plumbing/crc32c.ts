// CRC32C (Castagnoli) of stored bytes: native where there is a binary, else a table. Knows nothing of what it covers.

import { createRequire } from 'node:module';

export type Crc32c = (data: Uint8Array) => number;

let loaded: Crc32c | undefined;

export function loadCrc32c(): Crc32c {
  loaded ??= openNativeCrc32c() ?? tableCrc32c;
  return loaded;
}

function openNativeCrc32c(): Crc32c | undefined {
  if (process.env.CHAINKEEP_NATIVE === 'off') return undefined;
  try {
    const native: typeof import('@node-rs/crc32') = createRequire(import.meta.url)('@node-rs/crc32');
    return (data) => native.crc32c(Buffer.from(data.buffer, data.byteOffset, data.byteLength)) >>> 0;
  } catch {
    return undefined; // no binary for this platform: the table does the same, slower
  }
}

const POLYNOMIAL = 0x82f63b78; // reversed Castagnoli

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ POLYNOMIAL : value >>> 1;
  return value >>> 0;
});

function tableCrc32c(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) crc = (TABLE[(crc ^ byte) & 255] ?? 0) ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}
