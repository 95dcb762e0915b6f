// A kind of store: how it is configured and opened. A new backend is one folder and one line in registry.ts.

import type { ZodObject } from 'zod';
import type { BlobStore } from './blob-store.ts';

export type StoreType = 'local' | 'nfs' | 'cifs' | 'smb' | 's3' | 'azure';

/** Checked settings; those that are secret are Secrets. */
export type StoreConfig = Readonly<Record<string, unknown>>;

export interface StoreKind {
  readonly type: StoreType;
  /** How its repositories are told to lock; `setting`: what must be true for that. How much a lock is worth, `capabilities.retention` says. */
  readonly lock: { readonly type: 'linux_chattr' | 's3_object_lock' | 'azure_worm'; readonly setting?: string };
  /**
   * What `config` must look like; loaded only to register a repository or to draw a form, because zod costs tens of milliseconds.
   * Fields with `.describe()` help; secret fields carry `.meta({ secret: true })` and come out as Secret.
   */
  loadConfigSchema(): Promise<ZodObject>;
  /** Milliseconds that opening may take, where it is more than for others: such a kind notices by itself, and sooner, that nobody answers. */
  readonly openLimit?: number;
  /** `config` passed the schema at registration. `create`: the place may be made when it is missing (only `repo add` does that). */
  open(config: StoreConfig, options: OpenStoreOptions): Promise<BlobStore>;
}

export interface OpenStoreOptions {
  readonly create: boolean;
  /** Folder of this installation: shares are mounted below it. Without it only places are used that are there already. */
  readonly home?: string;
  /** Is told of everything that `create` made, with a way to take it back where it is still empty: nothing remains of a failed registration. */
  readonly onMade?: (undo: () => Promise<void>) => void;
}
