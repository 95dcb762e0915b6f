// A kind of store: how it is configured and opened. A new backend is one folder and one line in registry.ts.

import type { ZodType } from 'zod';
import type { BlobStore } from './blob-store.ts';

export type StoreType = 'local' | 'nfs' | 'cifs' | 'smb' | 's3' | 'azure';

export interface StoreKind<Config = unknown> {
  readonly type: StoreType;
  /** Fields with `.describe()` help; secret fields carry `.meta({ secret: true })`. */
  readonly configSchema: ZodType<Config>;
  /** `create`: the place may be made when it is missing (only `repo add` does that). */
  open(config: Config, options: { readonly create: boolean }): Promise<BlobStore>;
}
