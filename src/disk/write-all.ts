// A positioned write that is never short.

import type { FileHandle } from 'node:fs/promises';

export async function writeAll(handle: FileHandle, buffer: Uint8Array, offset: number): Promise<void> {
  for (let done = 0; done < buffer.length; ) {
    const { bytesWritten } = await handle.write(buffer, done, buffer.length - done, offset + done);
    done += bytesWritten;
  }
}
