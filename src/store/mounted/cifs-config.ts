// The settings of a repository on a Windows or Samba share (types cifs and smb). Imported by nothing that opens one: it brings zod.

import { z } from 'zod';
import { line, secret, server } from '../config-fields.ts';
import { mountFields, refuseSystemMountWithoutPlace } from './mount-fields.ts';

/** A comma would begin another option of mount. */
const NAME = /^[^,=]+$/;

export const cifsConfigSchema = z
  .strictObject({
    server: server().describe('Name or address of the file server.'),
    share_name: line('the name of the share is missing')
      .regex(/^[^\\/:*?"<>|]+(\/[^\\/:*?"<>|]+)*$/, 'is no name of a share, or share/folder')
      .describe('Name of the share, without the server.'),
    username: line('the user is missing').regex(NAME, 'has a comma or an equals sign').describe('User of the file server.'),
    password: secret('Password of that user.'),
    domain: line('must be text')
      .regex(NAME, 'has a comma or an equals sign')
      .optional()
      .describe('Windows domain or work group of the user.'),
    ...mountFields(),
  })
  .superRefine(refuseSystemMountWithoutPlace);
