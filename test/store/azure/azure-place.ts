// Containers of an Azurite for tests: one server for a file, a container of its own for each test.

import type { ContainerClient } from '@azure/storage-blob';
import { afterAll, beforeAll } from 'vitest';
import { Secret } from '../../../src/plumbing/secret.ts';
import type { BlobStore } from '../../../src/store/blob-store.ts';
import { openStore } from '../../../src/store/registry.ts';
import type { StoreConfig } from '../../../src/store/store-kind.ts';
import type { StoreUnderTest } from '../../../src/store/testing/conformance.ts';
import { AZURITE_LIMIT_MS, type AzuriteServer, containerClient, makeContainer, startAzurite } from '../../servers/azurite.ts';

export interface AzurePlace {
  /** The vendor's own client. */
  readonly container: ContainerClient;
  readonly config: StoreConfig;
  readonly key: string;
  open(more?: StoreConfig): Promise<BlobStore>;
}

/** For all tests of a file: answers the server once it is up. */
export function azuriteForFile(): () => AzuriteServer {
  let server: AzuriteServer | undefined;
  beforeAll(async () => {
    server = await startAzurite();
  }, AZURITE_LIMIT_MS);
  afterAll(() => server?.stop());
  return () => {
    if (!server) throw new Error('the server is only there inside a test');
    return server;
  };
}

let containers = 0;

/** `endpoint`: of a proxy in front of the server. */
export async function azurePlace(server: AzuriteServer, endpoint = server.endpoint): Promise<AzurePlace> {
  containers += 1;
  const name = `container-${process.pid}-${containers}`;
  const container = await makeContainer(server, name);
  const config = { account_name: server.account, container_name: name, endpoint };
  const open = (more: StoreConfig = {}): Promise<BlobStore> =>
    openStore('azure', { account_key: new Secret(server.key), ...config, ...more }, { create: false });
  return { container, config, key: server.key, open };
}

export async function azureUnderTest(server: AzuriteServer, more: StoreConfig = {}, endpoint?: string): Promise<StoreUnderTest> {
  const { open, config, key } = await azurePlace(server, endpoint);
  const client = containerClient({ ...server, endpoint: endpoint ?? server.endpoint }, String(config.container_name));
  const prefix = more.prefix === undefined ? '' : `${more.prefix}/`;
  return {
    store: await open(more),
    elsewhere: { type: 'azure', config: { ...config, ...more, account_key: key } },
    leftoverBytes: 6 * 2 ** 20,
    keepsSweptParts: true, // Azurite forgets the name alone; Azure forgets the blocks with it
    putForeign: async (name) => {
      await client.getBlockBlobClient(prefix + name).upload('theirs', name.endsWith('/') ? 0 : 6);
    },
    dispose: async () => undefined, // the server forgets everything at its end
  };
}
