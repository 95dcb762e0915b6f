// The settings of a local repository, for registration and forms. Imported by nothing that opens one: it brings zod.

import { isAbsolute } from 'node:path';
import { z } from 'zod';

export const localConfigSchema = z.strictObject({
  path: z
    .string('the folder of the backups is missing')
    .refine((path) => isAbsolute(path) && !path.includes('\0'), 'must be an absolute path')
    .describe('Folder that holds the backups. It is made when it is missing.'),
});
