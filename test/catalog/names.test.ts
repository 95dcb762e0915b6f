// Names are data: they differ when any character differs, and a name that fits two VMs decides nothing.

import { describe, expect, it } from 'vitest';
import { findRepository } from '../../src/catalog/backup-repositories.ts';
import { findVmContext, getVmContext, updateVmContext } from '../../src/catalog/vm-contexts.ts';
import { addRepository, addVm, openScratch } from './scratch-catalog.ts';

const TWINS = [
  'web',
  'Web',
  'WEB',
  'web ',
  ' web',
  'web\t',
  'wéb',
  'we\u0301b',
  'web😀',
  'web😁',
  'web\n',
  "w'eb",
  'w"eb',
  'w/eb',
  '../web',
  'w%eb',
  'w_b',
  'straße',
  'strasse',
  'ﬁ',
  'fi',
  '',
];

describe('names that look alike', () => {
  it('are different VMs, each found by its own name only', async () => {
    const { catalog } = await openScratch();
    for (const [index, name] of TWINS.entries()) await addVm(catalog, `id-${index}`, name);
    for (const [index, name] of TWINS.entries())
      expect(await getVmContext(catalog, name), name).toMatchObject({ context_id: `id-${index}` });
    await expect(getVmContext(catalog, 'wEb')).rejects.toMatchObject({ code: 'VM_NOT_FOUND' });
  });

  it('are different repositories', async () => {
    const { catalog } = await openScratch();
    for (const [index, name] of TWINS.entries()) await addRepository(catalog, `id-${index}`, name);
    for (const [index, name] of TWINS.entries()) expect(await findRepository(catalog, name), name).toMatchObject({ id: `id-${index}` });
  });
});

describe('one name, two VMs', () => {
  it('the ids are listed; an id, or a name after renaming, decides', async () => {
    const { catalog } = await openScratch();
    await addVm(catalog, 'vm-b', 'db');
    await addVm(catalog, 'vm-a', 'db');
    await expect(findVmContext(catalog, 'db')).rejects.toMatchObject({
      code: 'VM_AMBIGUOUS',
      message: '2 VMs are called "db": vm-a, vm-b',
      context: { vm_context_ids: ['vm-a', 'vm-b'] },
    });
    expect(await findVmContext(catalog, 'vm-a')).toMatchObject({ context_id: 'vm-a' });
    await updateVmContext(catalog, 'vm-b', { vm_name: 'db-old' });
    expect(await findVmContext(catalog, 'db')).toMatchObject({ context_id: 'vm-a' });
    expect(await findVmContext(catalog, 'nothing')).toBeUndefined();
  });

  it('an id wins over the name of another VM, a repository name over the id of another', async () => {
    const { catalog } = await openScratch();
    await addVm(catalog, 'vm-a', 'x');
    await addVm(catalog, 'vm-b', 'vm-a');
    expect(await findVmContext(catalog, 'vm-a')).toMatchObject({ vm_name: 'x' });
    await addRepository(catalog, 'r-a', 'x');
    await addRepository(catalog, 'r-b', 'r-a');
    expect(await findRepository(catalog, 'r-a')).toMatchObject({ id: 'r-b' });
  });
});
