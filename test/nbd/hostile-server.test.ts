// A server that lies, in every way the protocol can be lied in: the client ends with the right error, quickly, and lets go of the connection.

import { afterAll, describe, expect, it } from 'vitest';
import { listNbdExports } from '../../src/nbd/client/nbd-info.ts';
import { type NbdReader, openNbdReader } from '../../src/nbd/client/nbd-reader.ts';
import { HANDSHAKE_LIES, type Lie, TRANSMISSION_LIES } from './lies.ts';
import { peerFolder } from './nbd-peers.ts';
import { openScriptedServer } from './scripted-server.ts';

const scratch = peerFolder();
const OPTIONS = { connectWithin: 500, answerWithin: 400, reconnectWithin: 0 };
let number = 0;
let open: NbdReader | undefined;

afterAll(() => open?.close());

async function perform({ act, tls }: Lie, address: string): Promise<void> {
  const place = tls ? address.replace('nbd+', 'nbds+') : address;
  if (act === 'list') {
    await listNbdExports(place.replace('disk', ''), OPTIONS);
    return;
  }
  open = await openNbdReader(place, OPTIONS);
  // What was in the buffer before says whether something was taken for data.
  if (act === 'read') await open.read(Buffer.alloc(4096), 8192);
  if (act === 'status') for await (const extent of open.extents({ offset: 0, length: 1 << 20 })) expect(extent.length).toBeGreaterThan(0);
}

describe.each([
  ['the negotiation', HANDSHAKE_LIES],
  ['transmission', TRANSMISSION_LIES],
] as const)('a hostile server in %s', (_phase, lies) => {
  it.each(lies.map((lie) => [lie.name, lie] as const))('%s', async (_name, lie) => {
    const server = await openScriptedServer(scratch(`${number++}`), (peer) => lie.script(peer));
    const outcome = await perform(lie, server.address).then(
      () => 'success',
      (error: unknown) => error,
    );
    expect(outcome).toMatchObject({ code: lie.code });
    // An answer that failed by itself leaves a sound connection, which is ours to close.
    await open?.close();
    await server.allGone();
    await server.close();
  });
});

it('is lied to in well over sixty ways', () => {
  expect(HANDSHAKE_LIES.length + TRANSMISSION_LIES.length).toBeGreaterThan(100);
});
