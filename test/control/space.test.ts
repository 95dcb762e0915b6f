// Room is reserved before it is written: of those who want the last room one gets it, the dead reserve nothing, and what is written counts once.

import { describe, expect, it } from 'vitest';
import type { Catalog } from '../../src/catalog/catalog.ts';
import type { Owner } from '../../src/catalog/owner-fields.ts';
import { addReservation, listReservations } from '../../src/catalog/space-reservations.ts';
import { currentOwner } from '../../src/control/owner.ts';
import { checkSpace, reservedBytes, type SpaceWanted, withSpace } from '../../src/control/space.ts';
import type { Logger } from '../../src/plumbing/logger.ts';
import type { StoreCapacity } from '../../src/store/blob-store.ts';
import { addRepository, openScratch } from '../catalog/scratch-catalog.ts';

interface Site {
  readonly catalog: Catalog;
  readonly owner: Owner;
  readonly lines: string[];
  /** Changed by tests: what the store says. */
  room: StoreCapacity | undefined;
  wanted(other?: Partial<SpaceWanted>): SpaceWanted;
}

async function openSite(room: StoreCapacity | undefined): Promise<Site> {
  const { catalog } = await openScratch();
  await addRepository(catalog);
  const owner = await currentOwner(catalog);
  const lines: string[] = [];
  const logger: Logger = { log: (level, message) => lines.push(`${level} ${message}`) };
  const site: Site = {
    catalog,
    owner,
    lines,
    room,
    wanted: (other) => ({
      repository: { id: 'repo-1', name: 'safe' },
      jobId: 'job-1',
      owner,
      logger,
      measure: async () => site.room,
      ...other,
    }),
  };
  return site;
}

/** Half full. */
const room = (free: number): StoreCapacity => ({ totalBytes: 2 * free, usedBytes: free, availableBytes: free });
const bytes = (count: number) => ({ bytes: count, basis: 'a test' });
const reserved = async ({ catalog }: Site) => (await listReservations(catalog, 'repo-1')).map((row) => row.bytes);

describe('room', () => {
  it('is reserved while the work runs, and given back at its end and at its failure', async () => {
    const site = await openSite(room(1000));
    await withSpace(site.catalog, site.wanted(), async (space) => {
      await space.reserve(0, bytes(600));
      await space.reserve(1, bytes(300));
      expect(await reserved(site)).toEqual([600, 300]);
      expect(await reservedBytes(site.catalog, 'repo-1', site.owner)).toBe(900);
      await space.release(0);
      expect(await reserved(site)).toEqual([300]);
    });
    expect(await reserved(site)).toEqual([]);
    const failing = withSpace(site.catalog, site.wanted(), async (space) => {
      await space.reserve(0, bytes(600));
      throw new Error('it broke');
    });
    await expect(failing).rejects.toThrow('it broke');
    expect([await reserved(site), site.lines]).toEqual([[], []]);
  });

  it('that is not there is refused with both numbers', async () => {
    const site = await openSite(room(1000));
    const refused = withSpace(site.catalog, site.wanted(), (space) => space.reserve(0, bytes(1001)));
    await expect(refused).rejects.toMatchObject({
      code: 'INSUFFICIENT_STORAGE',
      context: { required_bytes: 1001, available_bytes: 1000, reserved_bytes: 0 },
    });
    await withSpace(site.catalog, site.wanted(), (space) => space.reserve(0, bytes(1000)));
    expect(await reserved(site)).toEqual([]);
  });

  it('for one is had by one of many who come at once', async () => {
    const site = await openSite(room(1000));
    const refusals: unknown[] = [];
    let enough: () => void = () => undefined;
    const allRefused = new Promise<void>((resolve) => {
      enough = resolve;
    });
    // Who gets the room keeps it until the others were refused: given back early, it would be the next one's by right.
    const attempt = (number: number) =>
      withSpace(site.catalog, site.wanted({ jobId: `job-${number}` }), async (space) => {
        await space.reserve(0, bytes(600));
        await Promise.race([allRefused, new Promise((resolve) => setTimeout(resolve, 20_000))]);
        return number;
      }).catch((error: unknown) => {
        if (refusals.push(error) === 5) enough();
      });
    const winners = (await Promise.all(Array.from({ length: 6 }, (_, number) => attempt(number)))).filter((won) => won !== undefined);
    expect([winners.length, refusals.length]).toEqual([1, 5]);
    for (const refusal of refusals) expect(refusal).toMatchObject({ code: 'INSUFFICIENT_STORAGE' });
    expect(await reserved(site)).toEqual([]);
  });

  it('of a dead process, or of one that was not heard of, is free', async () => {
    const site = await openSite(room(1000));
    const dead: Owner = { ...site.owner, pid: 2 ** 22, process_started: 1 };
    const elsewhere: Owner = { ...site.owner, machine_id: 'another', hostname: 'another' };
    const add = (owner: Owner, expiry: number) =>
      addReservation(site.catalog, { repositoryId: 'repo-1', jobId: 'old', owner, bytes: 900, expiry });
    await add(dead, 60_000);
    await add(elsewhere, -1);
    await checkSpace(site.catalog, site.wanted(), bytes(1000));
    await add(elsewhere, 60_000);
    await expect(checkSpace(site.catalog, site.wanted(), bytes(101))).rejects.toMatchObject({
      context: { required_bytes: 101, available_bytes: 1000, reserved_bytes: 900 },
    });
    await checkSpace(site.catalog, site.wanted(), bytes(100));
  });

  it('that is being written counts once: the reservation becomes smaller by it', async () => {
    const site = await openSite(room(1000));
    let written = 0;
    await withSpace(site.catalog, site.wanted({ heartbeat: 20 }), async (space) => {
      await space.reserve(0, bytes(600));
      space.follow(0, () => written);
      written = 500;
      site.room = room(500);
      for (let tries = 0; tries < 200 && (await reserved(site))[0] !== 100; tries += 1) await new Promise((go) => setTimeout(go, 10));
      expect(await reserved(site)).toEqual([100]);
      await checkSpace(site.catalog, site.wanted({ jobId: 'job-2' }), bytes(400));
      await expect(checkSpace(site.catalog, site.wanted(), bytes(401))).rejects.toMatchObject({ code: 'INSUFFICIENT_STORAGE' });
      written = 900; // more than it had said: what is over is not owed to it
      for (let tries = 0; tries < 200 && (await reserved(site))[0] !== 0; tries += 1) await new Promise((go) => setTimeout(go, 10));
      expect(await reserved(site)).toEqual([0]);
    });
  });

  it('that a plan makes smaller stays, and one that it makes larger has to fit anew', async () => {
    const site = await openSite(room(1000));
    await withSpace(site.catalog, site.wanted(), async (space) => {
      await space.reserve(0, bytes(600));
      await space.reserve(0, bytes(200));
      expect(await reserved(site)).toEqual([200]);
      await space.reserve(0, bytes(900));
      expect(await reserved(site)).toEqual([900]);
      await expect(space.reserve(0, bytes(1001))).rejects.toMatchObject({ code: 'INSUFFICIENT_STORAGE' });
      expect(await reserved(site)).toEqual([900]);
    });
  });

  it('is warned of from 90 %, and refused from 95 %, however little is needed', async () => {
    const site = await openSite({ totalBytes: 1000, usedBytes: 899, availableBytes: 101 });
    await checkSpace(site.catalog, site.wanted(), bytes(1));
    expect(site.lines).toEqual([]);
    site.room = { totalBytes: 1000, usedBytes: 900, availableBytes: 100 };
    await checkSpace(site.catalog, site.wanted(), bytes(1));
    expect(site.lines).toEqual(['warn the repository safe is 90 % full; from 95 % it takes no backups']);
    site.room = { totalBytes: 1000, usedBytes: 950, availableBytes: 50 };
    await expect(checkSpace(site.catalog, site.wanted(), bytes(1))).rejects.toMatchObject({
      code: 'INSUFFICIENT_STORAGE',
      context: { required_bytes: 1, available_bytes: 50, used_percentage: 95 },
    });
  });

  it('that the store cannot tell is warned of and goes on; where it says that nothing is left, nothing is let in', async () => {
    const site = await openSite(undefined);
    await withSpace(site.catalog, site.wanted(), (space) => space.reserve(0, bytes(2 ** 50)));
    site.room = { totalBytes: 1000, usedBytes: 1000, availableBytes: 0 };
    await expect(withSpace(site.catalog, site.wanted(), (space) => space.reserve(0, bytes(1)))).rejects.toMatchObject({
      code: 'INSUFFICIENT_STORAGE',
      context: { required_bytes: 1, available_bytes: 0, used_percentage: 100 },
    });
    expect(site.lines).toEqual(['warn the store of safe does not tell how much is free: whether the backup fits will be seen']);
  });
});
