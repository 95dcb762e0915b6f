// Which settings every kind of repository has beside its own, and what they say. For opening one: it must not bring zod.

import type { RetryPolicy } from '../plumbing/retry.ts';
import { DEFAULT_RETRY } from '../plumbing/retry.ts';
import type { StoreConfig } from './store-kind.ts';
import type { StoreLimits } from './wrap/store-limiter.ts';

/** A test compares them with the schema. */
export const COMMON_SETTINGS: readonly string[] = ['limits', 'retry_attempts', 'log_operations'];

/** The settings that every kind has, apart from those of this one. */
export function splitCommon(config: StoreConfig): { readonly common: Record<string, unknown>; readonly own: Record<string, unknown> } {
  const entries = Object.entries(config);
  return {
    common: Object.fromEntries(entries.filter(([name]) => COMMON_SETTINGS.includes(name))),
    own: Object.fromEntries(entries.filter(([name]) => !COMMON_SETTINGS.includes(name))),
  };
}

/** What passed the schema; anything else in the database limits nothing. */
export function limitsOf({ limits }: StoreConfig): StoreLimits {
  const given: Readonly<Record<string, unknown>> = typeof limits === 'object' && limits !== null ? { ...limits } : {};
  const number = (name: keyof StoreLimits): StoreLimits => {
    const value = given[name];
    return typeof value === 'number' && value > 0 ? { [name]: value } : {};
  };
  return { ...number('upload_bytes_per_second'), ...number('download_bytes_per_second'), ...number('concurrent_operations') };
}

/** Undefined: nothing is repeated by a wrapper. */
export function retryPolicyOf({ retry_attempts: attempts }: StoreConfig): RetryPolicy | undefined {
  return typeof attempts === 'number' && attempts > 1 ? { ...DEFAULT_RETRY, attempts } : undefined;
}

export function logsOperations({ log_operations: logs }: StoreConfig): boolean {
  return logs === true;
}
