// Sizes on the command line: `64k`, `10G` in, `1.5 GiB` out. Powers of 1024 both ways.

import { ChainkeepError } from '../plumbing/errors.ts';

const UNITS = ['', 'k', 'm', 'g', 't', 'p'];

/** Bytes of `512`, `64k`, `10G`, `1T`. Throws USAGE for anything else: no fractions, signs, blanks or longer units. */
export function parseSize(text: string): number {
  const match = /^(\d+)([kmgtp]?)$/i.exec(text);
  const bytes = match ? Number(match[1]) * 1024 ** UNITS.indexOf((match[2] ?? '').toLowerCase()) : Number.NaN;
  if (!Number.isSafeInteger(bytes)) {
    throw new ChainkeepError('USAGE', `"${text}" is not a size`, {
      advice: 'give bytes as a whole number, or with k, M, G, T or P: 65536, 64k, 10G',
    });
  }
  return bytes;
}

/** `0 B`, `1023 B`, `1.0 KiB`, `1.5 GiB`. */
export function formatSize(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1023.95 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  if (unit === 0) return `${bytes} B`;
  return `${value.toFixed(1)} ${UNITS[unit]?.toUpperCase()}iB`;
}
