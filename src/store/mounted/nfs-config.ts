// The settings of a repository on an NFS export. Imported by nothing that opens one: it brings zod.

import { z } from 'zod';
import { absolutePath, mountOptions, server } from '../config-fields.ts';

const VERSIONS = ['3', '4', '4.0', '4.1', '4.2'] as const;

export const nfsConfigSchema = z.strictObject({
  server: server().describe('Name or address of the NFS server.'),
  export_path: absolutePath('the exported folder is missing').describe('Folder that the server exports, as the server names it.'),
  mount_point: absolutePath('must be an absolute path').optional().describe('Where it is mounted here. Default: a folder in the home.'),
  nfs_version: z
    .preprocess((value) => (typeof value === 'number' ? String(value) : value), z.enum(VERSIONS, `must be one of ${VERSIONS.join(', ')}`))
    .default('4.2')
    .describe('Version of the protocol.'),
  mount_options: mountOptions().default('').describe('More options for mount, separated by commas.'),
});
