// Compressed clusters to plain ones and back, synchronously, so that worker threads can do it.
// It must not do I/O, and it never believes a stream: output is one cluster, whatever the stream says.

import { loadNative } from '../plumbing/native.ts';
import { deflateInto, type InflateResult, inflateInto } from './deflate.ts';
import type { ClusterCompression } from './header.ts';
import { invalidImage } from './invalid-image.ts';
import { MAX_ZSTD_WINDOW } from './limits.ts';
import { type NativeInflate, openNativeInflate } from './native-inflate.ts';
import { openNativeZstd, portableZstd, type ZstdEngine } from './zstd-engine.ts';
import { parseZstdFrame } from './zstd-frame.ts';

export interface ClusterCodec {
  /**
   * Fills `output`, exactly one cluster, from `stored`, whose length is an upper bound: what lies behind the stream is ignored.
   * Throws QCOW2_INVALID for a stream that is damaged, too short or asks for too much; `output` is undefined then.
   */
  decompress(compression: ClusterCompression, stored: Uint8Array, output: Uint8Array): void;
  /** Bytes written to `output`, or 0 when the result would not be smaller than the cluster. */
  compressZstd(cluster: Uint8Array, output: Uint8Array, level: number): number;
  /** The same in raw deflate with a window of 4 KiB, as qemu writes it. */
  compressZlib(cluster: Uint8Array, output: Uint8Array, level: number): number;
  /** Gives back memory outside of the JavaScript heap. */
  close(): void;
}

/** `native: false` takes node:zlib even where the faster way exists. One codec serves one thread. */
export function createClusterCodec(options: { readonly native?: boolean } = {}): ClusterCodec {
  const native = options.native === false ? undefined : loadNative();
  const zstd = (native && openNativeZstd(native)) ?? portableZstd;
  // Made at first use: few images are in zlib, and a stream has 40 KiB.
  let inflate: NativeInflate | undefined;
  return {
    decompress(compression, stored, output) {
      if (compression === 'zstd') return decompressZstd(zstd, stored, output);
      inflate ??= native && openNativeInflate(native);
      return refuseUnlessDone((inflate?.inflateInto ?? inflateInto)(stored, output), stored, output);
    },
    compressZstd: (cluster, output, level) => zstd.encode(cluster, smaller(cluster, output), level) ?? 0,
    compressZlib: (cluster, output, level) => deflateInto(cluster, smaller(cluster, output), level) ?? 0,
    close() {
      zstd.close();
      inflate?.close();
      inflate = undefined;
    },
  };
}

function smaller(cluster: Uint8Array, output: Uint8Array): Uint8Array {
  return output.subarray(0, cluster.length - 1);
}

function refuseUnlessDone(result: InflateResult, stored: Uint8Array, output: Uint8Array): void {
  if (result === 'short') throw invalidImage('a compressed cluster ends too early', { stored: stored.length, cluster: output.length });
  if (result === 'damaged') throw invalidImage('a compressed cluster is damaged: this is not a deflate stream', { stored: stored.length });
}

/** Frames, one behind the other, until the cluster is full; skippable ones count nothing. */
function decompressZstd(zstd: ZstdEngine, stored: Uint8Array, output: Uint8Array): void {
  let at = 0;
  let done = 0;
  while (done < output.length) {
    const frame = parseZstdFrame(stored, at);
    if ('fault' in frame) throw damagedZstd(frame.fault, stored, at);
    if (frame.windowSize > MAX_ZSTD_WINDOW) throw damagedZstd(`a frame asks for a window of ${frame.windowSize} bytes`, stored, at);
    if (!frame.skippable) {
      const length = zstd.decode(stored.subarray(at, at + frame.length), output.subarray(done));
      if (length === undefined) throw damagedZstd('a frame does not decode to at most one cluster', stored, at);
      done += length;
    }
    at += frame.length;
  }
}

function damagedZstd(why: string, stored: Uint8Array, at: number): Error {
  return invalidImage(`a compressed cluster is damaged: ${why}`, { stored: stored.length, at });
}
