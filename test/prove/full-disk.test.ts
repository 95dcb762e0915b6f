// Full disks: the campaign with its small count. Needs the right to mount.

import { it } from 'vitest';
import { fullDisk } from '../../prove/full-disk.ts';
import { mountTmpfs } from '../store/temporary-mount.ts';
import { expectAllGood } from './run-small.ts';

it('a disk may be full at every step', async ({ skip }) => {
  const mount = mountTmpfs('size=64k');
  if (typeof mount === 'string') return skip(mount);
  mount.dispose();
  await expectAllGood(fullDisk);
});
