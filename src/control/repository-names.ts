// Which names and places are still free for a repository.
// It must not look into a place.

import type { BackupRepository } from '../catalog/backup-repositories.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import { comparablePlace, type Place } from '../store/place-of.ts';

const LONGEST_NAME = 255;

/** Before anything is made: what the catalog would refuse must not have left a marker. */
export function refuseName(name: string): void {
  const length = Array.from(name).length;
  if (length > 0 && length <= LONGEST_NAME) return;
  throw new ChainkeepError('CONFIG_INVALID', `the name of a repository has 1 to ${LONGEST_NAME} characters, not ${length}`, {
    advice: 'choose another name',
  });
}

/** Throws REPOSITORY_EXISTS when one of the others has the name, or lies in, inside or around the place. */
export async function refuseTaken(others: readonly BackupRepository[], name: string, place: Place): Promise<void> {
  const here = await comparablePlace(place);
  // All at once: those that hang cost their time limit together.
  const theirs = await Promise.all(others.map((row) => comparablePlace(placeOfRow(row))));
  for (const [index, row] of others.entries()) {
    const taken = row.name === name ? `a repository called ${name} is registered already` : takenBy(row, theirs[index] ?? '', here);
    if (taken === undefined) continue;
    throw new ChainkeepError('REPOSITORY_EXISTS', taken, {
      advice: 'choose another one, or see what there is with: chainkeep repo list',
      context: { name: row.name, repository_id: row.id },
    });
  }
}

export async function isSamePlace(a: Place, b: Place): Promise<boolean> {
  return (await comparablePlace(a)) === (await comparablePlace(b));
}

export function placeOfRow(row: BackupRepository): Place {
  return { type: row.repository_type, config: row.config };
}

function takenBy(row: BackupRepository, theirs: string, here: string): string | undefined {
  if (theirs === here) return `the repository ${row.name} lies in this place already`;
  if (`${here}/`.startsWith(`${theirs}/`)) return `this place lies inside of the repository ${row.name}`;
  return `${theirs}/`.startsWith(`${here}/`) ? `the repository ${row.name} lies inside of this place` : undefined;
}
