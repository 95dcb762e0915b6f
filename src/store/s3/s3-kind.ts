// The store kind `s3`: a bucket on AWS or on any server that speaks its language.

import type { StoreKind } from '../store-kind.ts';
import { s3Settings } from './s3-settings.ts';
import { openS3Store } from './s3-store.ts';

export const s3Kind: StoreKind = {
  type: 's3',
  lock: { type: 's3_object_lock', setting: 'use_object_lock' },
  loadConfigSchema: async () => (await import('./s3-config.ts')).s3ConfigSchema,
  open: (config) => openS3Store(s3Settings(config)),
};
