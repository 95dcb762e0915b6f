// The settings of a repository on a Windows or Samba share (types cifs and smb). Imported by nothing that opens one: it brings zod.

import { z } from 'zod';
import { absolutePath, line, mountOptions, secret, server } from '../config-fields.ts';

export const cifsConfigSchema = z.strictObject({
  server: server().describe('Name or address of the file server.'),
  share_name: line('the name of the share is missing')
    .regex(/^[^\\/:*?"<>|]+(\/[^\\/:*?"<>|]+)*$/, 'is no name of a share, or share/folder')
    .describe('Name of the share, without the server.'),
  mount_point: absolutePath('must be an absolute path').optional().describe('Where it is mounted here. Default: a folder in the home.'),
  username: line('the user is missing').describe('User of the file server.'),
  password: secret('Password of that user.'),
  domain: line('must be text').optional().describe('Windows domain or work group of the user.'),
  mount_options: mountOptions().default('').describe('More options for mount, separated by commas.'),
});
