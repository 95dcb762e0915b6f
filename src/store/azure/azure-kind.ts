// The store kind `azure`: a container of Azure Blob Storage. The vendor's client is loaded when the first one is opened.

import type { StoreKind } from '../store-kind.ts';

export const azureKind: StoreKind = {
  type: 'azure',
  lock: { type: 'azure_worm', setting: 'use_immutable_blobs' },
  loadConfigSchema: async () => (await import('./azure-config.ts')).azureConfigSchema,
  open: async (config, options) => (await import('./azure-store.ts')).openAzureStore(config, options),
};
