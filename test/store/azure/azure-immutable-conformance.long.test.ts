// The whole conformance suite where every name means versions, over the stub that keeps policies. Long: each listing there goes over all versions.

import { afterAll, beforeAll } from 'vitest';
import { storeConformance } from '../../../src/store/testing/conformance.ts';
import { type ImmutabilityStub, startImmutabilityStub } from '../../servers/azure-immutability-stub.ts';
import { azureUnderTest, azuriteForFile } from './azure-place.ts';

const server = azuriteForFile();
let stub: ImmutabilityStub;

beforeAll(async () => {
  stub = await startImmutabilityStub(server());
});
afterAll(() => stub?.stop());

storeConformance('azure with immutable blobs', () =>
  azureUnderTest(server(), { use_immutable_blobs: true, upload_part_size_mib: 5 }, stub.endpoint),
);
