// Where a repository is, for people and for comparing: a path, or an address without secrets.
// It must not open anything: the place may be offline.

import { realPlace } from '../plumbing/real-place.ts';
import { textIn } from './config-values.ts';
import type { StoreConfig } from './store-kind.ts';

/** A path, `server:/export`, `//server/share`, `s3://bucket/prefix`, `azure://account/container/prefix`. */
export function placeOf(type: string, config: StoreConfig): string {
  const text = (name: string): string => textIn(config, name) ?? '';
  const joined = (...parts: readonly string[]): string => parts.filter((part) => part !== '').join('/');
  switch (type) {
    case 'nfs':
      return `${text('server')}:${text('export_path')}`;
    case 'cifs':
    case 'smb':
      return `//${text('server')}/${text('share_name')}`;
    case 's3':
      return joined(text('endpoint').replace(/\/+$/, '') || 's3:/', text('bucket'), text('prefix'));
    case 'azure':
      return joined(text('endpoint').replace(/\/+$/, '') || 'azure:/', text('account_name'), text('container_name'), text('prefix'));
    default:
      return text('path');
  }
}

export interface Place {
  readonly type: string;
  readonly config: StoreConfig;
}

/** The place in a form that can be compared: through every link, and without a slash at the end. */
export async function comparablePlace({ type, config }: Place): Promise<string> {
  const place = placeOf(type, config);
  return type === 'local' ? realPlace(place) : place.replace(/\/+$/, '');
}
