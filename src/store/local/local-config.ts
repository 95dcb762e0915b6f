// The settings of a local repository, for registration and forms. Imported by nothing that opens one: it brings zod.

import { z } from 'zod';
import { absolutePath } from '../config-fields.ts';

export const localConfigSchema = z.strictObject({
  path: absolutePath('the folder of the backups is missing').describe('Folder that holds the backups. It is made when it is missing.'),
});
