// The settings of a repository on an NFS server. Imported by nothing that opens one: it brings zod.

import { z } from 'zod';
import { absolutePath, server } from '../config-fields.ts';
import { mountFields, refuseSystemMountWithoutPlace } from './mount-fields.ts';

const VERSIONS = ['3', '4', '4.0', '4.1', '4.2'] as const;

export const nfsConfigSchema = z
  .strictObject({
    server: server().describe('Name or address of the NFS server.'),
    export_path: absolutePath('the exported folder is missing').describe('Folder that the server exports, as the server names it.'),
    nfs_version: z
      .preprocess((value) => (typeof value === 'number' ? String(value) : value), z.enum(VERSIONS, `must be one of ${VERSIONS.join(', ')}`))
      .default('4.2')
      .describe('Version of the protocol.'),
    ...mountFields(),
  })
  .superRefine(refuseSystemMountWithoutPlace);
