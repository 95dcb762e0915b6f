// Which names and places are still free for a repository.
// It must not look into a place.

import type { BackupRepository } from '../catalog/backup-repositories.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import { isInside, type Place } from '../store/place-of.ts';

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
export function refuseTaken(others: readonly BackupRepository[], name: string, place: Place): void {
  for (const row of others) {
    const taken = takenBy(row, name, place);
    if (taken === undefined) continue;
    throw new ChainkeepError('REPOSITORY_EXISTS', taken, {
      advice: 'choose another one, or see what there is with: chainkeep repo list',
      context: { name: row.name, repository_id: row.id },
    });
  }
}

export function isSamePlace(a: Place, b: Place): boolean {
  return isInside(a, b) && isInside(b, a);
}

export function placeOfRow(row: BackupRepository): Place {
  return { type: row.repository_type, config: row.config };
}

function takenBy(row: BackupRepository, name: string, place: Place): string | undefined {
  const theirs = placeOfRow(row);
  if (row.name === name) return `a repository called ${name} is registered already`;
  if (isSamePlace(theirs, place)) return `the repository ${row.name} lies in this place already`;
  if (isInside(place, theirs)) return `this place lies inside of the repository ${row.name}`;
  return isInside(theirs, place) ? `the repository ${row.name} lies inside of this place` : undefined;
}
