// Who pushes, who has left and how, and what follows: without a server, by a clock that the test sets.

import { describe, expect, it } from 'vitest';
import { PushClients } from '../../src/jobs/kinds/push-clients.ts';

let now = 0;

function clients(disks: readonly number[] = [0], wantsWrites: readonly number[] = []): PushClients {
  now = 1000;
  return new PushClients(disks, { reconnectWithin: 100, wait: 1000, wantsWrites: new Set(wantsWrites) }, () => now);
}

const disk = { write: async () => {}, zero: async () => {}, trim: async () => {}, flush: async () => {} };
const bytes = Buffer.alloc(1);

describe('a push', () => {
  it('is complete when somebody says so and the last client has said goodbye, and not before', () => {
    const push = clients();
    const [one, two] = [push.join(0), push.join(0)];
    expect(push.isComplete(true)).toBe(false);
    one(true);
    expect(push.isComplete(true)).toBe(false);
    two(true);
    expect(push.isComplete(false)).toBe(false);
    expect(push.isComplete(true)).toBe(true);
  });

  it('of a client that vanished waits for one that comes back, for as long as it may', () => {
    const push = clients();
    push.join(0)(false);
    now += 100;
    expect(push.isComplete(true)).toBe(false);
    push.join(0)(true);
    expect(push.isComplete(true)).toBe(true);
    const given = clients();
    given.join(0)(false);
    now += 101;
    expect(() => given.isComplete(true)).toThrow(expect.objectContaining({ code: 'CONNECTION_FAILED' }));
  });

  it('of which one of several connections vanished is not complete, whatever the others say', () => {
    const push = clients();
    const [one, two] = [push.join(0), push.join(0)];
    one(false);
    two(true);
    expect(push.isComplete(true)).toBe(false);
    now += 101;
    expect(() => push.isComplete(true)).toThrow('vanished');
  });

  it('waits for a first client, and for the word, as long as it may, and for ever while one is there', () => {
    const first = clients();
    now += 1000;
    expect(first.isComplete(false)).toBe(false);
    now += 1;
    expect(() => first.isComplete(false)).toThrow('no client came to disk 0 within 1 s');
    const push = clients();
    const leave = push.join(0);
    now += 100_000;
    expect(push.isComplete(false)).toBe(false);
    leave(true);
    now += 1000;
    expect(push.isComplete(false)).toBe(false);
    now += 1;
    expect(() => push.isComplete(false)).toThrow('nobody said that the push is complete');
  });

  it('is refused where nobody has been, at any of its disks, or nothing was written', async () => {
    const nobody = clients([0, 1]);
    nobody.join(0)(true);
    expect(() => nobody.isComplete(true)).toThrow('no client has been at disk 1');
    const idle = clients([0, 1], [0, 1]);
    for (const id of [0, 1]) idle.join(id)(true);
    await idle.watch(0, disk).write(bytes, 0);
    expect(() => idle.isComplete(true)).toThrow(
      expect.objectContaining({ code: 'PUSH_INCOMPLETE', message: expect.stringContaining('disk 1') }),
    );
    await idle.watch(1, disk).trim(0, 1);
    expect(idle.isComplete(true)).toBe(true);
  });

  it('fails with the first change that failed, though the client was told and goes on', async () => {
    const push = clients();
    const leave = push.join(0);
    const full = push.watch(0, { ...disk, write: () => Promise.reject(new Error('full')) });
    await expect(full.write(bytes, 0)).rejects.toThrow('full');
    await full.zero(0, 1, false);
    leave(true);
    expect(() => push.isComplete(false)).toThrow('full');
    expect(() => push.assertSound()).toThrow('full');
  });
});

it('a disk of which only changes are pushed takes no demand away from another', async () => {
  const push = clients([0, 1], [0]);
  for (const id of [0, 1]) push.join(id)(true);
  await push.watch(0, disk).write(Buffer.alloc(0), 0); // nothing is no write
  expect(() => push.isComplete(true)).toThrow('nothing was written to disk 0');
  await push.watch(0, disk).write(bytes, 0);
  expect(push.isComplete(true)).toBe(true);
});

it('a change that was refused ends it, also where the client does not care', () => {
  const push = clients();
  push.join(0)(true);
  push.refused(0, 1024, { command: 'WRITE', offset: 1000, length: 100 });
  expect(() => push.isComplete(true)).toThrow(
    expect.objectContaining({ code: 'PUSH_INCOMPLETE', message: expect.stringContaining('1024 bytes') }),
  );
});
