// Loaded into the attacked program before it begins (NODE_OPTIONS=--import): the Nth fsync of a file or folder of its own fails with EIO, once.
// strace cannot do this one: it counts per thread, and the syncs of the database come first in every count. It must not touch SQLite.

import { writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';

const FAIL_AT = Number(process.env.CHAINKEEP_PROVE_FAIL_SYNC);
const HIT = process.env.CHAINKEEP_PROVE_HIT ?? '';
let count = 0;

const handle = await open(import.meta.filename);
const methods: FileHandle = Object.getPrototypeOf(handle);
await handle.close();
const { sync } = methods;

methods.sync = async function (this: FileHandle) {
  count += 1;
  if (count !== FAIL_AT) return Reflect.apply(sync, this, []);
  writeFileSync(HIT, '');
  throw Object.assign(new Error('EIO: i/o error, fsync'), { code: 'EIO', errno: -5, syscall: 'fsync' });
};
