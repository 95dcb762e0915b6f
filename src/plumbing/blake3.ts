// BLAKE3, 32 bytes: from a prebuilt native package, else from WebAssembly that runs everywhere.
// Call `loadBlake3` once (it may have to compile the fallback); what it answers is synchronous.

import { createRequire } from 'node:module';

export const DIGEST_BYTES = 32;

export interface Blake3 {
  /** Digest of one buffer, 32 bytes. */
  hash(data: Uint8Array): Uint8Array;
  /** The same, into 32 bytes of `target` from `at` on: no object is made for each digest. */
  hashInto(data: Uint8Array, target: Buffer, at: number): void;
  /** A running digest over many buffers. */
  create(): RunningDigest;
}

export interface RunningDigest {
  update(data: Uint8Array): void;
  digest(): Uint8Array;
}

let loaded: Promise<Blake3> | undefined;

export function loadBlake3(): Promise<Blake3> {
  loaded ??= open();
  return loaded;
}

async function open(): Promise<Blake3> {
  return openNativeBlake3() ?? (await openWasmBlake3());
}

function openNativeBlake3(): Blake3 | undefined {
  if (process.env.CHAINKEEP_NATIVE === 'off') return undefined;
  let native: typeof import('@napi-rs/blake-hash');
  try {
    native = createRequire(import.meta.url)('@napi-rs/blake-hash');
  } catch {
    return undefined; // no binary for this platform: WebAssembly does the same, slower
  }
  return {
    hash: (data) => native.blake3(data),
    // The package makes an external buffer of each digest, which costs 1.4 microseconds and the collector's time; a text costs 0.4.
    hashInto: (data, target, at) => void target.write(native.blake3UrlSafeBase64(data), at, DIGEST_BYTES, 'base64url'),
    create: () => {
      const hasher = new native.Blake3Hasher();
      return {
        update: (data) => void hasher.update(data),
        digest: () => hasher.digestBuffer(),
      };
    },
  };
}

async function openWasmBlake3(): Promise<Blake3> {
  const { createBLAKE3 } = await import('hash-wasm');
  const whole = await createBLAKE3();
  // Each running digest needs an instance of its own, and making one is asynchronous: keep the pieces until the end instead
  // would need unbounded memory, so the state of the one instance is saved and loaded around every update.
  const blank = whole.init().save();
  return {
    hash: (data) => whole.init().update(data).digest('binary'),
    hashInto: (data, target, at) => target.set(whole.init().update(data).digest('binary'), at),
    create: () => {
      let state = blank;
      return {
        update: (data) => {
          state = whole.load(state).update(data).save();
        },
        digest: () => whole.load(state).digest('binary'),
      };
    },
  };
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}
