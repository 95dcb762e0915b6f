// The process of one repository on a mounted share: every call that may hang is made here. It answers requests on descriptor 3 until that closes.
// It must not outlive who asks: a commit that comes after its writer was taken for dead would not be expected by anybody.

import { Socket } from 'node:net';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { Secret } from '../../plumbing/secret.ts';
import type { BlobStore, StoreCapabilities } from '../blob-store.ts';
import { openLocalStore } from '../local/local-store.ts';
import { FrameReader, sendFrame } from './frames.ts';
import { type OpenedMount, openMount } from './open-mount.ts';
import type { StorageRequest } from './requests.ts';
import { encodeError } from './sent-error.ts';
import { type Served, ServedStore } from './served-store.ts';

/** Bytes of requests that wait for the storage; beyond, the asking process waits. */
const MOST_WAITING = 16 * 1024 * 1024;

interface Opened {
  readonly mount: OpenedMount;
  readonly served: ServedStore;
}

/** Bytes that are taken from the socket at once; with Node's own way it would be 64 KiB, each time in a buffer of its own. */
const CHUNK = 256 * 1024;

const socket = new Socket({
  fd: 3,
  readable: true,
  writable: true,
  onread: {
    buffer: Buffer.alloc(CHUNK),
    callback: (length, chunk) => {
      reader.feed(Buffer.from(chunk.buffer, chunk.byteOffset, length));
      return true;
    },
  },
});
let opened: Opened | undefined;
let shown = (text: string): string => text;
let waiting = 0;
let stopped = false;

async function start({ plan, password, create, limit }: Extract<StorageRequest, { readonly op: 'start' }>): Promise<Served> {
  const mount = await openMount({ plan, create, limit, password: password === undefined ? undefined : new Secret(password) });
  shown = (text) => text.replaceAll(mount.path, plan.mountPoint);
  const { types } = plan.expected;
  try {
    const store = await openLocalStore(mount.path, { create: false, claims: isFuse(types), deniesOpen: isSmb(types) });
    opened = { mount, served: new ServedStore(store, () => mount.check()) };
    return { value: { capabilities: await capabilitiesOf(store, types), madeMountPoint: mount.madeMountPoint } };
  } catch (error) {
    if (!opened) await mount.close(); // else `stop` does
    throw error;
  }
}

/**
 * What the kernel and the servers leave of a local folder. An SMB client that finds the replaced file open deletes it first, and then renames; a FUSE
 * file system may do anything. Shares have no immutable attribute, only modes.
 */
async function capabilitiesOf(store: BlobStore, types: readonly string[]): Promise<StoreCapabilities> {
  const { createOnly, maxBlobSize, clock } = store.capabilities;
  const capacity = await store.capacity();
  const fuse = isFuse(types);
  // Some servers say "nothing free" and take gigabytes: that is no answer. What NFS says is the file system's own word.
  const tells = capacity !== undefined && capacity.totalBytes > 0 && (capacity.availableBytes > 0 || !(fuse || isSmb(types)));
  return {
    createOnly: createOnly && !fuse,
    atomicReplace: !fuse && !isSmb(types),
    ...(fuse ? { retention: 'none' } : { retention: 'advisory', retentionMark: 'mode' }),
    maxBlobSize,
    clock,
    capacity: tells,
  };
}

function isSmb(types: readonly string[]): boolean {
  return types.includes('cifs') || types.includes('smb3');
}

function isFuse(types: readonly string[]): boolean {
  return types.some((type) => type.startsWith('fuse'));
}

async function answer(request: StorageRequest, body: Uint8Array): Promise<Served> {
  if (request.op === 'hello') return { value: null };
  if (request.op === 'start') return start(request);
  if (!opened) throw new ChainkeepError('INTERNAL', `${request.op} before a share was opened`);
  if (request.op !== 'stop') return opened.served.serve(request, body);
  await opened.served.close();
  await opened.mount.close();
  stopped = true;
  return { value: null };
}

async function serve(id: number, request: StorageRequest, body: Uint8Array): Promise<void> {
  try {
    const { value, body: bytes } = await answer(request, body);
    sendFrame(socket, id, { value }, bytes ? [bytes] : []);
  } catch (error) {
    sendFrame(socket, id, { error: encodeError(error, shown) });
  }
}

const reader = new FrameReader({
  place: (_, length) => Buffer.allocUnsafe(length),
  take: (id, text, body) => {
    waiting += body.byteLength;
    if (waiting > MOST_WAITING) socket.pause();
    void serve(id, JSON.parse(text), body).finally(() => {
      waiting -= body.byteLength;
      if (waiting <= MOST_WAITING) socket.resume();
    });
  },
});

socket.on('error', end);
socket.on('close', end);

function end(): void {
  if (stopped) process.exit(0);
  // A call on the storage may be under way, and Node would wait for it.
  process.kill(process.pid, 'SIGKILL');
}
