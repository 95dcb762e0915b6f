// How long a receiving job waits for the clients that push disks to it, as this installation has it set.

import type { Catalog } from './catalog.ts';
import { findSetting, putSetting } from './settings.ts';

export interface PushLimits {
  /** Seconds in which a client that vanished must be back. */
  readonly reconnect_within: number;
  /** Seconds without any client: before the first one, and after all have said goodbye. */
  readonly wait: number;
}

export const DEFAULT_PUSH_LIMITS: PushLimits = { reconnect_within: 300, wait: 86_400 };

const SETTING = 'push';

export async function findPushLimits(catalog: Catalog): Promise<PushLimits> {
  const value = (await findSetting(catalog, SETTING)) ?? {};
  const seconds = (name: keyof PushLimits): number => {
    const set = value[name];
    return typeof set === 'number' ? set : DEFAULT_PUSH_LIMITS[name];
  };
  return { reconnect_within: seconds('reconnect_within'), wait: seconds('wait') };
}

/** What is not given stays as it is. */
export function setPushLimits(catalog: Catalog, set: Partial<PushLimits>): Promise<PushLimits> {
  return catalog.transaction(async (unit) => {
    const limits = { ...(await findPushLimits(unit)), ...set };
    await putSetting(unit, SETTING, { ...limits });
    return limits;
  });
}
