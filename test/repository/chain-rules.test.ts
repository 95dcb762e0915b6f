// The rules of chains, each branch, over made-up sidecars.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ancestors,
  buildChains,
  byAge,
  chainFaults,
  checkLink,
  chooseParent,
  dependents,
  type ParentRequest,
  validateChain,
} from '../../src/repository/chain-rules.ts';
import type { Sidecar } from '../../src/repository/sidecar-fields.ts';
import { sidecarOf } from './made-up-sidecar.ts';

// An old chain of two, and the current one: a full, two incrementals, a differential, an incremental on that.
const old = sidecarOf('a1');
const oldChild = sidecarOf('a2', old);
const full = sidecarOf('b1');
const second = sidecarOf('b2', full);
const third = sidecarOf('b3', second);
const differential = sidecarOf('b4', full, { backup_type: 'differential' });
const newest = sidecarOf('b5', differential);
const all = [newest, old, third, full, differential, oldChild, second];
const ids = (sidecars: readonly Sidecar[]): string[] => sidecars.map((sidecar) => sidecar.backup_id);

function choose(request: Partial<ParentRequest> = {}, sidecars: readonly Sidecar[] = all): ReturnType<typeof chooseParent> {
  return chooseParent({ type: 'auto', totalBytes: 65_536, ...request }, sidecars);
}

describe('a family of backups', () => {
  it('is sorted by age', () => {
    expect(ids(byAge(all))).toEqual(['a1', 'a2', 'b1', 'b2', 'b3', 'b4', 'b5']);
  });

  it('has chains, the newest first, each with all that stands on its full', () => {
    expect(buildChains(all).map((chain) => [chain.full.backup_id, ids(chain.backups)])).toEqual([
      ['b1', ['b1', 'b2', 'b3', 'b4', 'b5']],
      ['a1', ['a1', 'a2']],
    ]);
    expect(buildChains([])).toEqual([]);
    expect(buildChains([third]).length).toBe(0);
  });

  it('has ancestors and dependents', () => {
    expect(ids(ancestors(newest, all))).toEqual(['b5', 'b4', 'b1']);
    expect(ids(ancestors(third, all))).toEqual(['b3', 'b2', 'b1']);
    expect(ids(ancestors(full, all))).toEqual(['b1']);
    expect(ids(dependents('b1', all))).toEqual(['b2', 'b3', 'b4', 'b5']);
    expect(ids(dependents('b2', all))).toEqual(['b3']);
    expect(ids(dependents('b4', all))).toEqual(['b5']);
    expect(dependents('b5', all)).toEqual([]);
  });

  it('says which one is missing', () => {
    const without = all.filter((sidecar) => sidecar !== second);
    expect(() => ancestors(third, without)).toThrow(
      expect.objectContaining({ code: 'PARENT_NOT_FOUND', context: { backup_id: 'b3', missing_backup_id: 'b2' } }),
    );
    expect(ids(dependents('b2', without))).toEqual(['b3']);
    expect(buildChains(without).map((chain) => ids(chain.backups))).toEqual([
      ['b1', 'b4', 'b5'],
      ['a1', 'a2'],
    ]);
  });

  it('can loop in damaged sidecars without anybody hanging', () => {
    const x = sidecarOf('x', sidecarOf('y'));
    const y = sidecarOf('y', x, { chain_id: 'y' });
    const z = sidecarOf('z', x);
    const loop = [x, y, z];
    for (const sidecar of loop) {
      expect(() => ancestors(sidecar, loop)).toThrow(
        expect.objectContaining({ code: 'CHAIN_CORRUPT', message: expect.stringContaining('loop') }),
      );
    }
    expect(buildChains(loop)).toEqual([]);
    expect(ids(dependents('x', loop))).toEqual(['y', 'z']);
    expect(ids(dependents('nobody', loop))).toEqual([]);
    const own = sidecarOf('o', sidecarOf('o'));
    expect(() => ancestors(own, [own])).toThrow(expect.objectContaining({ code: 'CHAIN_CORRUPT' }));
  });

  it('fits together, or is corrupt', () => {
    const child = sidecarOf('c', full);
    expect(() => checkLink(child, full)).not.toThrow();
    expect(() => checkLink({ ...child, total_bytes: 70_000 }, full)).not.toThrow();
    const misfits: [Partial<Sidecar>, string][] = [
      [{ vm_context_id: 'vm-b' }, 'is of another disk'],
      [{ disk_id: 1 }, 'is of another disk'],
      [{ chain_id: 'a1' }, 'belongs to chain b1'],
      [{ qcow2: { ...child.qcow2, cluster_size: 4096 } }, 'has clusters of 65536 bytes'],
      [{ parent_content_root: 'f'.repeat(64) }, 'has another content than the one this backup was made on'],
      [{ parent_content_root: null }, 'has another content than the one this backup was made on'],
      [{ total_bytes: 65_535 }, 'is of a larger disk'],
    ];
    for (const [change, what] of misfits) {
      const expected = expect.objectContaining({ code: 'CHAIN_CORRUPT', message: `backup c does not fit on its parent b1, which ${what}` });
      expect(() => checkLink({ ...child, ...change }, full), what).toThrow(expected);
      expect(() => ancestors({ ...child, ...change }, all), what).toThrow(expected);
    }
    expect(() => checkLink(sidecarOf('d', second, { backup_type: 'differential' }), second)).toThrow(/which is no full backup/);
  });
});

describe('the parent of the next backup', () => {
  it('is nothing for a full, whatever is there', () => {
    expect(choose({ type: 'full' })).toEqual({ type: 'full', reason: 'a full backup was asked for' });
    expect(choose({ type: 'full', damaged: new Set(['b1']), totalBytes: 1, clusterSize: 512 }).type).toBe('full');
  });

  it('is nothing for the first backup of a disk, which must be full', () => {
    expect(choose({}, [])).toMatchObject({ type: 'full', reason: expect.stringContaining('no completed backup') });
    for (const type of ['incremental', 'differential'] as const) {
      expect(() => choose({ type }, [])).toThrow(expect.objectContaining({ code: 'PARENT_REQUIRED' }));
    }
  });

  it('is the newest backup of the current chain, whatever its type; for a differential its full', () => {
    expect(choose()).toMatchObject({ type: 'incremental', parent: newest });
    expect(choose({ type: 'incremental' })).toMatchObject({ type: 'incremental', parent: newest });
    expect(choose({ type: 'differential' })).toMatchObject({ type: 'differential', parent: full });
    expect(choose({}, [old, oldChild])).toMatchObject({ parent: oldChild });
    // A chain is current by its full, not by its newest member.
    const late = sidecarOf('z9', oldChild);
    expect(choose({}, [...all, late])).toMatchObject({ parent: newest });
  });

  it('stays when the disk grew; a disk that shrank starts a new chain, whatever was asked for', () => {
    expect(choose({ totalBytes: 65_537 })).toMatchObject({ parent: newest });
    for (const type of ['auto', 'incremental', 'differential'] as const) {
      expect(choose({ type, totalBytes: 65_535 })).toMatchObject({
        type: 'full',
        reason: expect.stringContaining('shrank from 65536 to 65535'),
      });
    }
    // Grown since the full, and now back to its size: a differential could stand on the full, but the newest is larger.
    const grown = sidecarOf('b6', newest, { total_bytes: 131_072 });
    for (const type of ['auto', 'incremental', 'differential'] as const) {
      expect(choose({ type, totalBytes: 65_536 }, [...all, grown])).toMatchObject({ type: 'full' });
    }
    expect(choose({ type: 'differential', totalBytes: 131_072 }, [...all, grown])).toMatchObject({ parent: full });
  });

  it('keeps the cluster size of its chain', () => {
    expect(choose({ clusterSize: 65_536 })).toMatchObject({ parent: newest });
    expect(choose({ clusterSize: 4096 })).toMatchObject({ type: 'full', reason: expect.stringContaining('clusters of 65536') });
    for (const type of ['incremental', 'differential'] as const) {
      expect(() => choose({ type, clusterSize: 4096 })).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
    }
  });

  it('is none of a damaged chain', () => {
    const damages: [string, Partial<ParentRequest>, readonly Sidecar[]][] = [
      ['the newest failed verification', { damaged: new Set(['b5']) }, all],
      ['one in the middle is damaged, of another branch', { damaged: new Set(['b3']) }, all],
      ['the full is damaged', { damaged: new Set(['b1']) }, all],
      ['a sidecar that nobody can read is younger than the full', { damaged: new Set(['b2x']) }, all],
      ['one in the middle is gone, and what stood on it is cut off', {}, all.filter((sidecar) => sidecar !== second)],
      [
        'one in the middle fits no more',
        {},
        all.map((sidecar) => (sidecar === third ? { ...third, parent_content_root: '0'.repeat(64) } : sidecar)),
      ],
    ];
    for (const [what, request, sidecars] of damages) {
      expect(choose(request, sidecars), what).toMatchObject({
        type: 'full',
        reason: expect.stringMatching(/^the chain is damaged \(backup .*\): a new chain starts$/),
      });
      for (const type of ['incremental', 'differential'] as const) {
        expect(() => choose({ ...request, type }, sidecars), what).toThrow(expect.objectContaining({ code: 'CHAIN_CORRUPT' }));
      }
    }
  });

  it('is not hindered by damage in older chains', () => {
    expect(choose({ damaged: new Set(['a1', 'a2', 'a0', 'a9']) })).toMatchObject({ parent: newest });
    expect(
      choose(
        {},
        all.filter((sidecar) => sidecar !== old),
      ),
    ).toMatchObject({ parent: newest });
  });

  it('is none where the catalog misses a younger full, though an older chain is whole', () => {
    const orphans = all.filter((sidecar) => sidecar !== full);
    expect(choose({ damaged: new Set(['b1']) }, orphans)).toMatchObject({ type: 'full' });
  });
});

describe('any family', () => {
  const families = fc.array(fc.tuple(fc.nat(5), fc.boolean()), { minLength: 1, maxLength: 12 }).map((steps) => {
    const made: Sidecar[] = [];
    for (const [index, [pick, isFull]] of steps.entries()) {
      const id = `n${String(index).padStart(2, '0')}`;
      const parent = isFull || made.length === 0 ? null : (made[made.length - 1 - (pick % made.length)] ?? null);
      made.push(sidecarOf(id, parent));
    }
    return made;
  });

  it('has every backup in exactly one chain, and ancestors and dependents that agree', () => {
    fc.assert(
      fc.property(families, (family) => {
        const chains = buildChains(family);
        expect(ids(chains.flatMap((chain) => chain.backups)).sort()).toEqual(ids(family));
        for (const one of family) {
          for (const other of family) {
            const needs = one !== other && ancestors(one, family).includes(other);
            expect(dependents(other.backup_id, family).includes(one)).toBe(needs);
          }
        }
      }),
      { numRuns: 200 },
    );
  });
});

describe('a whole chain', () => {
  const full = sidecarOf('b1');
  const child = sidecarOf('b2', full);
  const grandchild = sidecarOf('b3', child);
  const faultsOf = (...sidecars: Sidecar[]) => [...chainFaults(sidecars)].map(([id, error]) => [id, error.code]);

  it('has no fault when every link fits, and no chain hides the fault of another', () => {
    expect(faultsOf(grandchild, full, child)).toEqual([]);
    expect(validateChain('b1', [full, child, grandchild])).toEqual({ backups: [full, child, grandchild], faults: [] });
    const other = sidecarOf('c2', sidecarOf('c1'));
    expect(faultsOf(full, child, other)).toEqual([['c2', 'PARENT_NOT_FOUND']]);
    expect(validateChain('b1', [full, child, other]).faults).toEqual([]);
  });

  it('gives the fault of a backup to all that stands on it, and to nothing below', () => {
    const sibling = sidecarOf('b4', full);
    expect(faultsOf(full, grandchild, sibling)).toEqual([['b3', 'PARENT_NOT_FOUND']]);
    const replaced = { ...child, content_root: 'f'.repeat(64) };
    expect(faultsOf(full, replaced, grandchild, sibling)).toEqual([['b3', 'CHAIN_CORRUPT']]);
    expect(faultsOf(child, grandchild)).toEqual([
      ['b2', 'PARENT_NOT_FOUND'],
      ['b3', 'PARENT_NOT_FOUND'],
    ]);
  });

  it('of which the parents form a loop ends in a fault of each', () => {
    const one = { ...child, parent_backup_id: 'b3', parent_content_root: grandchild.content_root };
    expect(faultsOf(full, one, grandchild).toSorted()).toEqual([
      ['b2', 'CHAIN_CORRUPT'],
      ['b3', 'CHAIN_CORRUPT'],
    ]);
  });

  it('is of one disk, and begins with its one full', () => {
    const elsewhere = { ...child, disk_id: 1 };
    expect(faultsOf(full, elsewhere)).toEqual([['b2', 'CHAIN_CORRUPT']]);
    const second = sidecarOf('b5', null, { chain_id: 'b1' });
    expect(validateChain('b1', [full, child, second]).faults).toMatchObject([{ backupId: 'b5', error: { code: 'CHAIN_CORRUPT' } }]);
    expect(validateChain('b1', [child]).faults.map(({ backupId }) => backupId)).toEqual(['b2', 'b2']);
    expect(() => validateChain('b9', [full])).toThrow('b9');
  });
});
