// A disk of a running machine that is only planned: its size and its marks are known, nothing of it is read and nothing in the machine is touched.

import type { ByteRange, Extent } from '../disk/extent.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import type { OpenedSource } from './open-source.ts';

export interface PlannedDisk {
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  readonly kind: OpenedSource['kind'];
  /** Since which the machine will be able to tell what changed. */
  readonly marks: ReadonlySet<string>;
}

export function plannedDisk({ name, size, kind, marks }: PlannedDisk): OpenedSource {
  return {
    reader: {
      name,
      size,
      async *extents(range): AsyncGenerator<Extent> {
        yield { ...range, kind: 'data' };
      },
      read: () => Promise.reject(new ChainkeepError('INTERNAL', `internal error: the disk ${name} was opened to be planned, and is read`)),
      close: async () => undefined,
    },
    kind,
    notices: [],
    changes: {
      name: kind === 'libvirt' ? 'libvirt' : 'QEMU',
      otherwise: 'compare',
      since: (mark) => (marks.has(mark) ? { name: `the bitmap ${mark}`, changed: () => allOf(size) } : undefined),
    },
    checkUnchanged: async () => undefined,
  };
}

/** How much is marked only the export tells: the plan counts on all of it. */
async function* allOf(size: number): AsyncGenerator<ByteRange> {
  yield { offset: 0, length: size };
}
