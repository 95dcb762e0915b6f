// Who does something: the process behind a job, a lease, a reader or a reservation, as it is stored.
// It must not ask the machine anything: control/owner.ts does.

import { ChainkeepError } from '../plumbing/errors.ts';
import { type Column, isJsonObject } from './column.ts';

/** What a platform cannot tell is null, and then nothing is concluded from it. */
export interface Owner {
  readonly machine_id: string | null;
  readonly hostname: string;
  /** Another one after each start of the machine. */
  readonly boot_id: string | null;
  /** Process numbers mean something only inside one of these. */
  readonly pid_namespace: string | null;
  readonly pid: number;
  /** Ticks between the start of the machine and that of the process: a process number is used again, this pair is not. */
  readonly process_started: number | null;
}

/** Stored as JSON with the fields always in the same order, so that two owners are equal when their texts are. */
export const ownerColumn: Column<Owner> = {
  decode: (raw, name) => {
    const value: unknown = typeof raw === 'string' ? JSON.parse(raw) : raw;
    if (isJsonObject(value) && typeof value.hostname === 'string' && typeof value.pid === 'number') {
      return {
        machine_id: textOrNull(value.machine_id),
        hostname: value.hostname,
        boot_id: textOrNull(value.boot_id),
        pid_namespace: textOrNull(value.pid_namespace),
        pid: value.pid,
        process_started: typeof value.process_started === 'number' ? value.process_started : null,
      };
    }
    throw new ChainkeepError('CATALOG_FAILED', `the database holds an impossible value for ${name}`, { context: { column: name } });
  },
  encode: ({ machine_id, hostname, boot_id, pid_namespace, pid, process_started }) =>
    JSON.stringify({ machine_id, hostname, boot_id, pid_namespace, pid, process_started }),
};

function textOrNull(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}
