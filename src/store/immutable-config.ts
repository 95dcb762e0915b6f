// The settings of immutability, the same for every kind of store that can lock. Imported for registration and forms alone: it brings zod.

import { z } from 'zod';
import { count, days, flag } from './config-fields.ts';

const LOCKS = ['linux_chattr', 's3_object_lock', 'azure_worm'] as const;

export const immutableConfigSchema = z.strictObject({
  type: z
    .enum(LOCKS, `must be one of ${LOCKS.join(', ')}`)
    .describe('How the store locks: a file attribute, S3 Object Lock, an Azure policy.'),
  min_retention_days: days(1).describe('Days for which a backup cannot be deleted by anybody.'),
  grace_period_days: days(0).default(0).describe('Days after its completion before a backup is locked.'),
  apply_to_full_backups: flag().default(true).describe('Lock full backups.'),
  apply_to_incrementals: flag().default(true).describe('Lock incremental and differential backups, and with them what they need.'),
  full_after_days: days(1)
    .default(7)
    .describe('Days after which the type auto starts another chain, so that the locks of the last one can end.'),
  full_after_backups: count(1, 1000).default(30).describe('Backups after which it does.'),
});

export type ImmutableConfig = z.output<typeof immutableConfigSchema>;
