// Conformance of stores: what the self-test tries on a user's own storage holds for every store.

import { expect, it } from 'vitest';
import { isChainkeepError } from '../../plumbing/errors.ts';
import { BEHAVIOURS } from '../behaviours.ts';
import type { Subject } from './conformance.ts';

export function sharedBehaviours(subject: Subject): void {
  it.each(BEHAVIOURS.map((behaviour) => [behaviour.name, behaviour] as const))('%s', async (_name, behaviour) => {
    const { store } = subject();
    if (behaviour.appliesTo?.(store) ?? true) {
      await behaviour.run({ store, folder: 'trial/' });
      return;
    }
    // What a store does not claim it must refuse, or not do: a claim that is too small would keep a check from running.
    const done = await behaviour.run({ store, folder: 'trial/' }).then(
      () => true,
      (error: unknown) => !isChainkeepError(error),
    );
    expect(done && behaviour.group === 'retention', 'a store that claims no retention protects').toBe(false);
  });
}
