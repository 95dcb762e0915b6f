// A machine boots from a backup: Linux, from a writable export, under QEMU. It looks at its disk, writes to it, and is thrown away.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { runTool } from '../nbd/nbd-peers.ts';
import { bootGuest, makeGuestDisk, makeLinuxParts } from '../servers/linux-guest.ts';
import { noise, scratchHome } from './scratch-home.ts';
import { endServing, startServing } from './start-serving.ts';

const LIMIT_MS = 10 * 60_000;

/** What the guest does when it has come to its disk: it changes it and reads that again, past its caches. */
const INIT = `#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -o remount,rw / && /bin/busybox cp /noise /copy && /bin/busybox sync
echo 3 >/proc/sys/vm/drop_caches
echo "copy $(/bin/busybox sha256sum </copy)"
/bin/busybox mount -o remount,ro /
/bin/busybox poweroff -f
`;

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

it('a guest that boots Linux from an export of a backup reads its disk as it was, and writes to it', { timeout: 2 * LIMIT_MS }, async ({
  skip,
}) => {
  const user = scratchHome();
  const parts = makeLinuxParts(user.path('linux'));
  if (typeof parts === 'string') return skip(parts);
  const disk = user.path('disk.img');
  const bytes = noise(5 << 20, 7);
  makeGuestDisk(disk, parts, INIT, new Map([['noise', bytes]]));
  const { backup_id: id } = await user.backup(disk, 'guest');
  const serving = await startServing<{ readonly address: string }>(user, 'export', id, '--writable');
  const said = await bootGuest(parts, serving.address, LIMIT_MS);
  expect(said).toContain(`disk ${sha256(readFileSync(disk))}`);
  expect(said).toContain(`copy ${sha256(bytes)}`);
  // It boots again from what it has written, which differs from the backup; the backup is what it was.
  expect((await runTool('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', serving.address, disk)).code).toBe(1);
  expect(await bootGuest(parts, serving.address, LIMIT_MS)).toContain(`copy ${sha256(bytes)}`);
  await endServing(serving);
  await user.expectRestores(id, disk);
  expect((await user.verifyAll()).damaged).toEqual([]);
});
