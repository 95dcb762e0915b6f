// The settings that every object store has, out of a checked configuration. It must not bring zod: stores are opened with it.

import type { StoreConfig } from '../store-kind.ts';
import type { UploadSettings } from './part-plan.ts';

const MIB = 2 ** 20;

export interface ObjectSettings {
  readonly upload: UploadSettings;
  /** Bytes. */
  readonly readCache: number;
  readonly quotaBytes: number | undefined;
}

/** A setting that is missing (a configuration from before it existed) has its default. */
export function objectSettings(config: StoreConfig): ObjectSettings {
  const number = (name: string, otherwise: number): number => {
    const value = config[name];
    return typeof value === 'number' ? value : otherwise;
  };
  return {
    upload: {
      partSize: number('upload_part_size_mib', 16) * MIB,
      concurrency: number('upload_concurrency', 4),
      memory: number('upload_memory_mib', 192) * MIB,
    },
    readCache: number('read_cache_mib', 64) * MIB,
    quotaBytes: typeof config.quota_bytes === 'number' ? config.quota_bytes : undefined,
  };
}
