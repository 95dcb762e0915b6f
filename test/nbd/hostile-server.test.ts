// A server that lies, in every way the protocol can be lied in: the client ends with the right error, quickly, and lets go of the connection.

import { afterAll, describe, expect, it } from 'vitest';
import { listNbdExports } from '../../src/nbd/client/nbd-info.ts';
import { type NbdReader, openNbdReader } from '../../src/nbd/client/nbd-reader.ts';
import { BASE_ALLOCATION } from '../../src/nbd/protocol/meta-context.ts';
import { OPTION } from '../../src/nbd/protocol/option.ts';
import { encodeOptionReply, REPLY } from '../../src/nbd/protocol/option-reply.ts';
import { SIMPLE_REPLY_LENGTH, writeSimpleReply } from '../../src/nbd/protocol/reply.ts';
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

// A long answer is read straight into the reader's buffer; whoever gave up on it may use that for something else by then.
it.each(['is too slow', 'is left'] as const)(
  'that %s in the middle of an answer writes nothing into the buffer afterwards',
  async (why) => {
    const LENGTH = 1 << 16;
    const given = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    const script = async (peer: ScriptedPeer): Promise<void> => {
      await peer.enter({ style: 'simple' });
      const head = Buffer.alloc(SIMPLE_REPLY_LENGTH);
      writeSimpleReply(head, { error: 0, cookie: (await peer.request()).cookie });
      peer.send(head, Buffer.alloc(LENGTH / 2, 0xaa));
      begun.resolve();
      await given.promise;
      peer.send(Buffer.alloc(LENGTH / 2, 0xbb));
    };
    const server = await openScriptedServer(scratch(`${number++}`), script, true);
    const reader = await openNbdReader(server.address, OPTIONS);
    const buffer = Buffer.alloc(LENGTH);
    const outcome = reader.read(buffer, 0).catch((error: unknown) => error);
    await begun.promise;
    if (why === 'is left') {
      while (buffer[LENGTH / 2 - 1] !== 0xaa) await new Promise((resolve) => setTimeout(resolve, 5));
      await reader.close();
    }
    expect(await outcome).toMatchObject({ code: why === 'is left' ? 'CANCELLED' : 'CONNECTION_FAILED' });
    expect(buffer[LENGTH / 2 - 1]).toBe(0xaa); // the half that came was there already
    buffer.fill(0x11);
    given.resolve();
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(buffer.equals(Buffer.alloc(LENGTH, 0x11))).toBe(true);
    await reader.close();
    await server.close();
  },
);
