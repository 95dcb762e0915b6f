// Brings the tables of a database from whatever version they have to the current one.
// It must not go back: a database of a newer version is refused before this is loaded.

import { assert } from '../../plumbing/errors.ts';
import type { Catalog, SqlValue } from '../catalog.ts';
import { readSchemaVersion, SCHEMA_VERSION, withMigrationLock, writeSchemaVersion } from '../schema-version.ts';
import { ACCESS_STEPS } from './access-steps.ts';
import { BACKUP_STEPS } from './backup-steps.ts';
import { CONFIGURATION_STEPS } from './configuration-steps.ts';
import { COORDINATION_STEPS } from './coordination-steps.ts';
import { HEARTBEAT_STEPS } from './heartbeat-steps.ts';
import { JOB_LOG_STEPS } from './job-log-steps.ts';
import { type Step, schemaWords } from './portability.ts';
import { PUSH_STEPS } from './push-steps.ts';
import { SECRET_STEPS } from './secret-steps.ts';

/** In the order in which they run. Once released, a step is never changed or removed: new ones are added at the end. */
export const STEPS: readonly Step[] = [
  ...CONFIGURATION_STEPS,
  ...BACKUP_STEPS,
  ...JOB_LOG_STEPS,
  ...COORDINATION_STEPS,
  ...SECRET_STEPS,
  ...HEARTBEAT_STEPS,
  ...ACCESS_STEPS,
  ...PUSH_STEPS,
];

/** Safe to call from several processes at once, and again after a kill: each step can be repeated, and its number is written after it. */
export async function migrateCatalog(catalog: Catalog): Promise<void> {
  assert(STEPS.length === SCHEMA_VERSION, `there are ${STEPS.length} migration steps and SCHEMA_VERSION is ${SCHEMA_VERSION}`);
  await withMigrationLock(catalog, async (locked) => {
    const words = schemaWords(locked.dialect);
    // Read again: another process may have done it while this one waited for the lock.
    for (let version = await readSchemaVersion(locked); version < STEPS.length; version++) {
      const statement = STEPS[version]?.(words)?.compile();
      if (statement) await locked.run({ sql: statement.sql, parameters: statement.parameters as readonly SqlValue[] });
      await writeSchemaVersion(locked, version + 1);
    }
  });
}
