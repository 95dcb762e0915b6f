// The settings that every mounted share has. Imported by schemas alone: it brings zod.

import { z } from 'zod';
import { absolutePath, line, mountOptions } from '../config-fields.ts';

/** Seconds, also as text. */
const seconds = () =>
  z.preprocess(
    (value) => (typeof value === 'string' && /^\d{1,5}$/.test(value) ? Number(value) : value),
    z.int('must be a whole number of seconds').min(5, 'must be at least 5').max(3600, 'must be at most 3600'),
  );

export const mountFields = () => ({
  mount_point: absolutePath('must be an absolute path')
    .optional()
    .describe('Where it is mounted here; a share that the system has mounted there is used as it is. Default: a folder in the home.'),
  mount_options: mountOptions().default('').describe('More options for mount, separated by commas.'),
  system_mount: line('must be text')
    .regex(/^\S+ \S.*$/, 'must be a type and a source, as in "fuse.smbnetfs smbnetfs"')
    .optional()
    .describe('For a share that only the system mounts: type and source that the mount table has for mount_point.'),
  time_limit_seconds: seconds().default(60).describe('A server that does not answer one call for so long counts as hung.'),
});

/** Without a place it cannot be told what the system has mounted. */
export function refuseSystemMountWithoutPlace(
  config: { readonly system_mount?: string | undefined; readonly mount_point?: string | undefined },
  context: z.RefinementCtx,
): void {
  if (config.system_mount === undefined || config.mount_point !== undefined) return;
  context.addIssue({ code: 'custom', path: ['system_mount'], message: 'needs mount_point, the place where the system mounts it' });
}
