// Settings that every object store has: how much memory it may take, how large the parts are. Imported by schemas alone: it brings zod.

import { count } from '../config-fields.ts';

export const objectFields = {
  upload_part_size_mib: count(5, 1024)
    .default(16)
    .describe('MiB of one part of an upload. Larger parts are taken where a blob would have too many.'),
  upload_concurrency: count(1, 64).default(4).describe('Parts of one blob that are sent at the same time.'),
  upload_memory_mib: count(32, 16_384)
    .default(192)
    .describe('MiB of memory for the parts of one disk that is written. Large parts are sent fewer at a time.'),
  read_cache_mib: count(8, 16_384).default(64).describe('MiB of memory for what was read, and read ahead.'),
  quota_bytes: count(1, Number.MAX_SAFE_INTEGER)
    .optional()
    .describe('Bytes that the repository may take. A bucket has no size of its own; without a quota only what is used is known.'),
};
