// A kind of store: how it is configured and opened. A new backend is one folder and one line in registry.ts.

import type { ZodType } from 'zod';
import type { BlobStore } from './blob-store.ts';

export type StoreType = 'local' | 'nfs' | 'cifs' | 'smb' | 's3' | 'azure';

export interface StoreKind {
  readonly type: StoreType;
  /**
   * What `config` must look like; loaded only to register a repository or to draw a form, because zod costs tens of milliseconds.
   * Fields with `.describe()` help; secret fields carry `.meta({ secret: true })`.
   */
  loadConfigSchema(): Promise<ZodType<Readonly<Record<string, unknown>>>>;
  /** `config` passed the schema at registration. `create`: the place may be made when it is missing (only `repo add` does that). */
  open(config: unknown, options: OpenStoreOptions): Promise<BlobStore>;
}

export interface OpenStoreOptions {
  readonly create: boolean;
}
