// A list of what changed that an agent hands over, as VMware's QueryChangedDiskAreas answers it: a JSON file.
// What leaves anything open is refused: a stretch that is not understood would be one that is not backed up.

import type { ChangeTracking } from '../disk/change-list.ts';
import type { ByteRange } from '../disk/extent.ts';
import { systemClock } from '../plumbing/clock.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import { openFileSource } from '../plumbing/file-source.ts';

/** About 800 000 stretches, which take some 100 MB of memory while they are read. Where more changed, comparing is not slower. */
const MOST_BYTES = 32 * 2 ** 20;

/** VMware's mark for "everything that is in use": it says nothing of what was used and is not any more. */
const SINCE_EVER = '*';

export interface ChangedExtentsRequest {
  /** Absolute path of the list: `[{"start": 0, "length": 65536}, …]` in bytes; `offset` is another word for `start`. */
  readonly path: string;
  readonly sinceChangeId: string;
  /** Bytes of the disk that it is of. */
  readonly diskBytes: number;
}

/** Throws CHANGES_INVALID, and what opening a file throws. The stretches may overlap and come in any order. */
export async function readChangedExtents({ path, sinceChangeId, diskBytes }: ChangedExtentsRequest): Promise<ChangeTracking> {
  if (sinceChangeId === SINCE_EVER)
    throw invalid(path, 'since "*" it names what is in use, not what changed', 'ask for what changed since the change id of the parent');
  const stretches = parseStretches(path, await readText(path), diskBytes);
  stretches.sort((a, b) => a.offset - b.offset);
  const name = `the list ${path}`;
  const list = {
    name,
    changed: async function* (): AsyncGenerator<ByteRange> {
      yield* stretches;
    },
  };
  return { name, asOf: systemClock.now(), since: (mark) => (mark === sinceChangeId ? list : undefined), otherwise: 'refuse' };
}

async function readText(path: string): Promise<string> {
  const source = await openFileSource(path);
  try {
    if (source.size > MOST_BYTES)
      throw invalid(path, `it has ${source.size} bytes, at most ${MOST_BYTES} are read`, 'leave it away: all of the disk is compared then');
    const bytes = Buffer.alloc(source.size);
    await source.read(bytes, 0);
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    if (error instanceof TypeError) throw invalid(path, 'it is no text in UTF-8');
    throw error;
  } finally {
    await source.close();
  }
}

function parseStretches(path: string, text: string, diskBytes: number): ByteRange[] {
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch {
    throw invalid(path, 'it is no JSON');
  }
  if (!Array.isArray(list)) throw invalid(path, 'it is no JSON array');
  return list.map((entry: unknown, index) => {
    const stretch = parseStretch(entry);
    const where = `its entry ${index + 1} of ${list.length}`;
    if (!stretch) throw invalid(path, `${where} is not {"start": bytes, "length": bytes}, with whole numbers`);
    if (stretch.offset + stretch.length <= diskBytes) return stretch;
    const end = stretch.offset + stretch.length;
    throw invalid(path, `${where} ends at ${end}, and the disk at ${diskBytes}`, 'it may be the list of another disk');
  });
}

function parseStretch(entry: unknown): ByteRange | undefined {
  if (typeof entry !== 'object' || entry === null || Object.keys(entry).length !== 2) return undefined;
  const offset = 'start' in entry ? entry.start : 'offset' in entry ? entry.offset : undefined;
  const length = 'length' in entry ? entry.length : undefined;
  if (!isCount(offset) || !isCount(length) || length === 0 || !isCount(offset + length)) return undefined;
  return { offset, length };
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function invalid(path: string, what: string, advice = 'it must be a JSON array: [{"start": 0, "length": 65536}]'): ChainkeepError {
  return new ChainkeepError('CHANGES_INVALID', `${path} is not a list of changed extents of this disk: ${what}`, {
    advice,
    context: { path },
  });
}
