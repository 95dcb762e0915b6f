// The settings that a repository of every kind has: how fast and how much at once it may be used, and how its store is wrapped.
// Imported for registration and forms alone: it brings zod.

import { z } from 'zod';
import { bytesPerSecond, count, flag } from './config-fields.ts';

const limitsSchema = z.strictObject({
  upload_bytes_per_second: bytesPerSecond()
    .optional()
    .describe('Bytes a second that are written there: 10M. Left out: as fast as it goes.'),
  download_bytes_per_second: bytesPerSecond().optional().describe('Bytes a second that are read from there.'),
  concurrent_operations: count(1, 1024).optional().describe('Reads, writes and questions at once.'),
});

export const commonConfigSchema = z.strictObject({
  limits: limitsSchema.optional().describe('Limits; a change counts within seconds, also for jobs that run.'),
  retry_attempts: count(1, 20)
    .optional()
    .describe('How often a read or a question is tried in all when it fails for a reason that passes. Object stores repeat by themselves.'),
  log_operations: flag().optional().describe('Write every call to the store into the job log, with its time.'),
});

/** Those of them that are objects: `limits.upload_bytes_per_second` leads into one. */
export const COMMON_OBJECTS = ['limits'] as const;
