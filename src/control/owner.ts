// Who this process is, and whether another one is provably dead: by machine, boot, process number and start time.
// It must never guess: what cannot be proved counts as alive, and then only the expiry of a lease helps.

import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';
import type { Catalog } from '../catalog/catalog.ts';
import type { Owner } from '../catalog/owner-fields.ts';
import { findOrMakeSetting } from '../catalog/settings.ts';
import { newId } from '../plumbing/clock.ts';
import { systemCode } from '../plumbing/errors.ts';

/** This process, as it stands in jobs and leases. */
export async function currentOwner(catalog: Catalog): Promise<Owner> {
  return {
    machine_id: readText('/etc/machine-id') ?? (await machineIdOfCatalog(catalog)),
    hostname: hostname(),
    boot_id: readText('/proc/sys/kernel/random/boot_id'),
    pid_namespace: readPidNamespace(),
    pid: process.pid,
    process_started: readProcess(process.pid)?.started ?? null,
  };
}

/** `unknown`: of another machine or container, or hidden from us. */
export type OwnerState = 'running' | 'dead' | 'unknown';

/** True only when the owner cannot be running any more. */
export function isProvablyDead(owner: Owner, self: Owner): boolean {
  return judgeOwner(owner, self) === 'dead';
}

/** The host name counts as part of the machine, because cloned machines and containers often share a machine id. */
export function judgeOwner(owner: Owner, self: Owner): OwnerState {
  const known = owner.machine_id !== null && owner.boot_id !== null && self.boot_id !== null;
  if (!known || owner.machine_id !== self.machine_id || owner.hostname !== self.hostname) return 'unknown';
  if (owner.boot_id !== self.boot_id) return 'dead';
  if (owner.pid_namespace === null || owner.pid_namespace !== self.pid_namespace) return 'unknown';
  return judgeProcess(owner);
}

function judgeProcess(owner: Owner): OwnerState {
  if (!processExists(owner.pid)) return 'dead';
  const process = readProcess(owner.pid);
  // It exists and /proc does not show it (hidepid, another user's process): nothing is proved.
  if (!process || owner.process_started === null) return 'unknown';
  return !process.ended && process.started === owner.process_started ? 'running' : 'dead';
}

/** Signal 0 asks without sending; it also sees processes that /proc hides from other users. */
function processExists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return systemCode(error) !== 'ESRCH';
  }
}

/** Field 3 (state) and field 22 (start time in ticks since boot) of /proc/PID/stat, proc(5). */
function readProcess(pid: number): { readonly ended: boolean; readonly started: number } | undefined {
  const stat = readText(`/proc/${pid}/stat`);
  // Field 2 is the program's name in brackets, which may itself contain blanks and brackets.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
  const started = Number(fields?.[19]);
  if (!fields || !Number.isSafeInteger(started)) return undefined;
  return { ended: (fields[0] === 'Z' || fields[0] === 'X') && isLastThread(pid), started };
}

/**
 * Z and X: the first thread is dead, and only not yet collected by the parent. Of a killed process another thread may still be inside a call
 * that cannot be interrupted, and will finish it: a write, or the very link that commits a backup.
 */
function isLastThread(pid: number): boolean {
  try {
    return readdirSync(`/proc/${pid}/task`).length <= 1;
  } catch (error) {
    return systemCode(error) === 'ENOENT' || systemCode(error) === 'ESRCH';
  }
}

function readPidNamespace(): string | null {
  try {
    return readlinkSync('/proc/self/ns/pid');
  } catch {
    return null; // not Linux: unknown, and nothing is concluded from it
  }
}

async function machineIdOfCatalog(catalog: Catalog): Promise<string | null> {
  const { id } = await findOrMakeSetting(catalog, 'machine_id', () => ({ id: newId(catalog.clock) }));
  return typeof id === 'string' ? id : null;
}

function readText(path: string): string | null {
  try {
    return readFileSync(path, 'utf8').trim() || null;
  } catch {
    return null; // not Linux, or hidden: unknown, and nothing is concluded from it
  }
}
