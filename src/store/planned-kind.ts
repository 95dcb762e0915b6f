// A kind of store whose settings are known and which cannot be opened yet.

import { ChainkeepError } from '../plumbing/errors.ts';
import type { StoreKind } from './store-kind.ts';

export function plannedKind(kind: Omit<StoreKind, 'open'>): StoreKind {
  return {
    ...kind,
    open: async () => {
      throw new ChainkeepError('NOT_BUILT_YET', `repositories of type ${kind.type} are planned and not built yet`, {
        advice: 'use a repository of type local; a share that is mounted already is a folder too',
        context: { type: kind.type },
      });
    },
  };
}
