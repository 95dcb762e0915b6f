// The conformance suite over a container of Azurite.

import { storeConformance } from '../../../src/store/testing/conformance.ts';
import { azureUnderTest, azuriteForFile } from './azure-place.ts';

const server = azuriteForFile();

storeConformance('azure', () => azureUnderTest(server(), { prefix: 'some/folder', quota_bytes: 10 ** 9, upload_part_size_mib: 5 }));
