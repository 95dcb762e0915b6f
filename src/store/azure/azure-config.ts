// The settings of a repository in an Azure Blob container. Imported by nothing that opens one: it brings zod.

import { z } from 'zod';
import { endpoint, flag, line, optionalSecret, prefix } from '../config-fields.ts';
import { objectFields } from '../object/object-fields.ts';

export const azureConfigSchema = z
  .strictObject({
    account_name: line('the storage account is missing')
      .regex(/^[a-z0-9]{3,24}$/, 'must be 3 to 24 small letters and digits')
      .describe('Name of the storage account.'),
    container_name: line('the container is missing')
      .regex(/^[a-z0-9](-?[a-z0-9]){2,62}$/, 'must be 3 to 63 small letters, digits and single hyphens')
      .describe('Name of the container. It must exist.'),
    prefix: prefix().default('').describe('Folder inside of the container. Empty: the whole container is the repository.'),
    account_key: optionalSecret('Key of the storage account; this, a SAS token or a connection string.'),
    sas_token: optionalSecret('Shared access signature for the container: read, add, create, write, delete, list.'),
    connection_string: optionalSecret('Connection string of the storage account, as the portal shows it.'),
    endpoint: endpoint().optional().describe('Address of another server, for example an emulator. Default: that of the account.'),
    use_immutable_blobs: flag().default(false).describe('Lock backups with immutability policies. The container must support them.'),
    ...objectFields,
  })
  .superRefine(({ account_key: key, sas_token: token, connection_string: connection }, context) => {
    if ([key, token, connection].filter((given) => given !== undefined).length !== 1) {
      context.addIssue({ code: 'custom', path: ['account_key'], message: 'give one of account_key, sas_token and connection_string' });
    }
  });
