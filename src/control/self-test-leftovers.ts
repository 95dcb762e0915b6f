// What the self-test of a place leaves when its process is killed: its folder carries who made it, so that it can be cleared away at once.
// It must not touch the folder of a test that may still be running: that test would fail.

import { createHash } from 'node:crypto';
import type { Owner } from '../catalog/owner-fields.ts';
import { type Clock, randomToken } from '../plumbing/clock.ts';
import type { BlobStore } from '../store/blob-store.ts';
import { removeOne } from '../store/self-test.ts';
import { SELF_TEST_PREFIX } from '../store/self-test-prefix.ts';
import { isProvablyDead } from './owner.ts';

/** No self-test takes as long; what is older was left by a machine that nothing is known of. */
const SURELY_OVER_MS = 24 * 3600_000;
const FOLDER = /^([0-9a-f]{16})-(\d+)-(\d+)-[0-9a-z]{12}$/;

/** Names the folder of a self-test of this process, behind the prefix. */
export function selfTestName(owner: Owner): string {
  return `${machineOf(owner)}-${owner.pid}-${owner.process_started ?? 0}-${randomToken(12)}`;
}

export async function removeSelfTestLeftovers(store: BlobStore, owner: Owner, clock: Clock): Promise<void> {
  const folders = new Map<string, number>();
  for await (const { name, modifiedAt } of store.list(SELF_TEST_PREFIX)) note(folders, name, modifiedAt);
  await store.sweep(SELF_TEST_PREFIX, ({ name, modifiedAt }) => {
    note(folders, name, modifiedAt);
    return isOver(folderOf(name), modifiedAt, owner, clock);
  });
  for (const [folder, newest] of folders) {
    if (!isOver(folder, newest, owner, clock)) continue;
    const prefix = `${SELF_TEST_PREFIX}${folder}/`;
    for await (const { name } of store.list(prefix)) await removeOne(store, name);
  }
}

function note(folders: Map<string, number>, name: string, modifiedAt: number): void {
  const folder = folderOf(name);
  folders.set(folder, Math.max(folders.get(folder) ?? 0, modifiedAt));
}

function folderOf(name: string): string {
  return name.slice(SELF_TEST_PREFIX.length).split('/')[0] ?? '';
}

function isOver(folder: string, modifiedAt: number, self: Owner, clock: Clock): boolean {
  if (clock.now() - modifiedAt > SURELY_OVER_MS) return true;
  const [, machine, pid, started] = FOLDER.exec(folder) ?? [];
  // The mark of the machine has its boot and its namespace in it, so that only the process is left to ask for.
  if (machine !== machineOf(self) || pid === undefined || started === undefined) return false;
  return isProvablyDead({ ...self, pid: Number(pid), process_started: Number(started) || null }, self);
}

function machineOf({ machine_id, hostname, boot_id, pid_namespace }: Owner): string {
  const parts = [machine_id, hostname, boot_id, pid_namespace].map((part) => part ?? '').join('\n');
  return createHash('sha256').update(parts).digest('hex').slice(0, 16);
}
