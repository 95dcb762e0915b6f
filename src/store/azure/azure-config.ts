// The settings of a repository in an Azure Blob container. Imported by nothing that opens one: it brings zod.

import { z } from 'zod';
import { endpoint, flag, line, optionalSecret, prefix } from '../config-fields.ts';

export const azureConfigSchema = z
  .strictObject({
    account_name: line('the storage account is missing')
      .regex(/^[a-z0-9]{3,24}$/, 'must be 3 to 24 small letters and digits')
      .describe('Name of the storage account.'),
    container_name: line('the container is missing')
      .regex(/^[a-z0-9](-?[a-z0-9]){2,62}$/, 'must be 3 to 63 small letters, digits and single hyphens')
      .describe('Name of the container. It must exist.'),
    prefix: prefix().default('').describe('Folder inside of the container. Empty: the whole container is the repository.'),
    account_key: optionalSecret('Key of the storage account; this or a SAS token.'),
    sas_token: optionalSecret('Shared access signature for the container; this or the account key.'),
    endpoint: endpoint().optional().describe('Address of another server, for example an emulator. Default: that of the account.'),
    use_immutable_blobs: flag().default(false).describe('Lock backups with immutability policies. The container must support them.'),
  })
  .superRefine(({ account_key: key, sas_token: token }, context) => {
    if ((key === undefined) === (token === undefined)) {
      context.addIssue({ code: 'custom', path: ['account_key'], message: 'give either account_key or sas_token' });
    }
  });
