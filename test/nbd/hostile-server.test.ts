// A server that lies, in every way the protocol can be lied in: the client ends with the right error, quickly, and lets go of the connection.

import { afterAll, describe, expect, it } from 'vitest';
import { listNbdExports } from '../../src/nbd/client/nbd-info.ts';
import { type NbdReader, openNbdReader } from '../../src/nbd/client/nbd-reader.ts';
import { BASE_ALLOCATION } from '../../src/nbd/protocol/meta-context.ts';
import { OPTION } from '../../src/nbd/protocol/option.ts';
import { encodeOptionReply, REPLY } from '../../src/nbd/protocol/option-reply.ts';
import { encodeStatus } from '../../src/nbd/server/reply-writer.ts';
import { HANDSHAKE_LIES, type Lie, TRANSMISSION_LIES } from './lies.ts';
import { peerFolder } from './nbd-peers.ts';
import { openScriptedServer, type ScriptedPeer } from './scripted-server.ts';

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

it('that does not close its side is left all the same', async () => {
  const left = Promise.withResolvers<void>();
  const script = async (peer: ScriptedPeer): Promise<void> => {
    await peer.greet();
    await peer.optionsUntil(OPTION.LIST, { style: 'simple' });
    peer.send(encodeOptionReply(OPTION.LIST, REPLY.ACK));
    peer.socket.once('error', () => left.resolve());
    while (!peer.socket.destroyed) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      peer.send(Buffer.alloc(1));
    }
  };
  const server = await openScriptedServer(scratch(`${number++}`), script, true);
  expect(await listNbdExports(server.address.replace('disk', ''), OPTIONS)).toEqual([]);
  await left.promise;
  await server.close();
});

it('tells no flags of a context that it cannot tell as a number', async () => {
  const day = 'qemu:dirty-bitmap:day';
  const contexts = [BASE_ALLOCATION, day].map((name, index) => ({ name, id: index + 1 }));
  const server = await openScriptedServer(scratch(`${number++}`), async (peer) => {
    await peer.enter({ style: 'extended', contexts });
    const request = await peer.request();
    // 2^53, and the bit that means dirty.
    const dirty = encodeStatus(request, 'extended', { context: 2, descriptors: [{ length: 1 << 20, flags: 2 ** 53 }] }, true);
    dirty[dirty.length - 1] = 1;
    peer.send(encodeStatus(request, 'extended', { context: 1, descriptors: [{ length: 1 << 20, flags: 0 }] }, false), dirty);
  });
  open = await openNbdReader(server.address, { ...OPTIONS, contexts: [day] });
  await expect(
    open
      .ranges(day, { offset: 0, length: 1 << 20 })
      [Symbol.asyncIterator]()
      .next(),
  ).rejects.toMatchObject({
    code: 'NBD_PROTOCOL',
  });
  await server.close();
});

it('is lied to in well over sixty ways', () => {
  expect(HANDSHAKE_LIES.length + TRANSMISSION_LIES.length).toBeGreaterThan(100);
});
