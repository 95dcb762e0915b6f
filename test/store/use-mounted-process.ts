// A process that opens a mounted share, begins to write, says so, and waits to be killed. Arguments: the settings as JSON.

import { openStore } from '../../src/store/registry.ts';

const store = await openStore('nfs', JSON.parse(process.argv[2] ?? '{}'), { create: false });
const sink = await store.put('never');
await sink.append([Buffer.from('bytes')]);
process.stdout.write('writing\n');
setInterval(() => undefined, 1000);
