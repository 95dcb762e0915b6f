// A file of its own as a byte sink, for images written outside of a repository: appended forward, the head last.

import type { ByteSink } from '../plumbing/byte-sink.ts';
import { assert } from '../plumbing/errors.ts';
import type { DiskWriter } from './disk-writer.ts';

/** Takes over the writer, which is one that starts empty. */
export function openWriterSink(writer: DiskWriter, headLength: number): ByteSink {
  const next = new BigInt64Array(new SharedArrayBuffer(8));
  next[0] = BigInt(headLength);
  const fail = async (error: unknown): Promise<unknown> => writer.explain(error, Number(Atomics.load(next, 0)));
  return {
    name: writer.name,
    ...(writer.fd === undefined ? {} : { direct: { fd: writer.fd, next, fail } }),
    async append(buffers) {
      const bytes = Buffer.concat(buffers);
      const offset = Number(Atomics.add(next, 0, BigInt(bytes.length)));
      await writer.write(bytes, offset);
      return offset;
    },
    async finish(head) {
      assert(head.length === headLength, `a head of ${head.length} bytes, ${headLength} were announced`);
      await writer.write(head, 0);
      await writer.finish();
      return { size: Number(Atomics.load(next, 0)) };
    },
    abort: () => writer.abort(),
  };
}
