// Single values out of the checked settings of a store. It must not bring zod: stores are opened with it.

import { Secret } from '../plumbing/secret.ts';
import type { StoreConfig } from './store-kind.ts';

/** Undefined where it is left out, or empty. */
export function textIn(config: StoreConfig, name: string): string | undefined {
  const value = config[name];
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/** A setting that is missing (a configuration from before it existed) has its default. */
export function numberIn(config: StoreConfig, name: string, otherwise: number): number {
  const value = config[name];
  return typeof value === 'number' ? value : otherwise;
}

export function secretIn(config: StoreConfig, name: string): Secret | undefined {
  const value = config[name];
  return value instanceof Secret ? value : undefined;
}
