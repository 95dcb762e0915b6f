// The version of the product, as package.json says it.

import { readFileSync } from 'node:fs';

interface PackageFile {
  readonly version: string;
}

/** `0.1.0`. */
export function productVersion(): string {
  const file: PackageFile = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  return file.version;
}
