// Serves one image file until it is told to end: serve-nbd.ts FILE FORMAT SOCKET. Started by nbd.ts.

import { overlay } from '../src/disk/overlay.ts';
import { openNbdServer } from '../src/nbd/server/nbd-server.ts';
import { openImageFile } from '../src/qcow2/open-image-file.ts';

const [file = '', format = '', socket = ''] = process.argv.slice(2);
const disk = overlay((await openImageFile(file, format === 'raw' ? 'raw' : 'qcow2', 'same-folder')).layers);
const server = await openNbdServer({ listen: { kind: 'unix', path: socket }, exports: [{ name: 'disk', disk }], onProblem: console.error });
process.once('SIGTERM', () => void server.close().then(() => disk.close()));
