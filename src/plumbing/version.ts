// The version of this program, from its package.

import { createRequire } from 'node:module';

interface PackageFields {
  readonly version: string;
}

export function programVersion(): string {
  const fields: PackageFields = createRequire(import.meta.url)('../../package.json');
  return fields.version;
}
