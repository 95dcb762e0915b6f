// The settings that every object store has, out of a checked configuration. It must not bring zod: stores are opened with it.

import type { UploadSettings } from '../blob-store.ts';
import { numberIn } from '../config-values.ts';
import type { StoreConfig } from '../store-kind.ts';

const MIB = 2 ** 20;

export interface ObjectSettings {
  readonly upload: UploadSettings;
  /** Bytes. */
  readonly readCache: number;
  readonly quotaBytes: number | undefined;
}

export function objectSettings(config: StoreConfig): ObjectSettings {
  return {
    upload: {
      partSize: numberIn(config, 'upload_part_size_mib', 16) * MIB,
      concurrency: numberIn(config, 'upload_concurrency', 4),
      memory: numberIn(config, 'upload_memory_mib', 192) * MIB,
    },
    readCache: numberIn(config, 'read_cache_mib', 64) * MIB,
    quotaBytes: typeof config.quota_bytes === 'number' ? config.quota_bytes : undefined,
  };
}
