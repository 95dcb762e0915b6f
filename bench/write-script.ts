// Writes as many bytes into one new file as it is told, from one thread, 1 MiB at a time, and does nothing else: no program that puts the
// same bytes into one file with write(2) can be faster. `--fsync`: until they are durable.

import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';

const [path = '', bytes = '0', option] = process.argv.slice(2);
const buffer = Buffer.alloc(1 << 20, 0x5a);
const fd = openSync(path, 'wx');
for (let at = 0; at < Number(bytes); at += buffer.length) writeSync(fd, buffer, 0, Math.min(buffer.length, Number(bytes) - at), at);
if (option === '--fsync') fsyncSync(fd);
closeSync(fd);
