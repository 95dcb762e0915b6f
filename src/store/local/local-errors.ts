// Turns the errors of system calls into the store's errors, with what a user can do about them.

import { statfs } from 'node:fs/promises';
import { ChainkeepError, type ErrorContext, isChainkeepError, systemCode } from '../../plumbing/errors.ts';
import type { StoreCapacity } from '../blob-store.ts';
import { checkRoot, type LocalRoot } from './local-root.ts';

/** Node has no name for EDQUOT (over quota), only its number. */
const EDQUOT = -122;

export interface FailedCall {
  readonly root: LocalRoot;
  readonly action: 'read' | 'write';
  /** The blob, or the folder of a listing. */
  readonly name: string;
  /** Bytes that were asked for, for INSUFFICIENT_STORAGE. */
  readonly requiredBytes?: number;
  readonly context?: ErrorContext;
}

/** The store's error for a failed call on a file; a root that went away is REPOSITORY_OFFLINE, whatever the call said. */
export async function storeError(error: unknown, call: FailedCall): Promise<ChainkeepError> {
  if (isChainkeepError(error)) return error;
  const code = systemCode(error);
  const place = call.name === '' ? call.root.path : `${call.root.path}/${call.name}`;
  const context = { place: call.root.path, name: call.name, system_code: code, ...call.context };
  if (code === 'ENOSPC' || errnoOf(error) === EDQUOT) return noRoomError(call.root, call.name, call.requiredBytes, error);
  if (code === 'EFBIG') {
    return new ChainkeepError('BLOB_TOO_LARGE', `${place} is larger than its file system allows`, { cause: error, context });
  }
  if (code === 'EROFS' || ((code === 'EACCES' || code === 'EPERM') && call.action === 'write')) {
    return new ChainkeepError('REPOSITORY_READ_ONLY', `cannot write ${place}: ${reasonOf(error)}`, {
      advice: 'check the mount options, the owner and the mode of the folder',
      cause: error,
      context,
    });
  }
  try {
    await checkRoot(call.root);
  } catch (offline) {
    if (isChainkeepError(offline)) return offline;
    throw offline;
  }
  if (call.action === 'read' && code === 'ESTALE') {
    return new ChainkeepError(
      'BLOB_CHANGED',
      `${place} is not the file any more that was opened: it was replaced or deleted on its server`,
      {
        advice: 'open it again',
        cause: error,
        context,
      },
    );
  }
  return new ChainkeepError('STORE_FAILED', `cannot ${call.action} ${place}: ${reasonOf(error)}`, {
    advice: code === 'EACCES' ? 'check the owner and the mode of the file and its folders' : 'check the disk and the system log',
    cause: error,
    context,
  });
}

/** INSUFFICIENT_STORAGE with what was wanted and what there is. */
export async function noRoomError(root: LocalRoot, name: string, required: number | undefined, cause?: unknown): Promise<ChainkeepError> {
  const { availableBytes } = await readCapacity(root);
  const wanted = required === undefined ? '' : ` ${required} bytes are needed,`;
  return new ChainkeepError('INSUFFICIENT_STORAGE', `no room for ${name} in ${root.path}:${wanted} ${availableBytes} bytes are available`, {
    advice: 'free space there (delete backups), or use another repository',
    cause,
    context: { place: root.path, name, required_bytes: required, available_bytes: availableBytes },
  });
}

/** Bytes of the file system below the root; `available` is what is left for this user. */
export async function readCapacity(root: LocalRoot): Promise<StoreCapacity> {
  try {
    const { bsize, blocks, bfree, bavail } = await statfs(root.path, { bigint: true });
    return {
      totalBytes: Number(blocks * bsize),
      usedBytes: Number((blocks - bfree) * bsize),
      availableBytes: Number(bavail * bsize),
    };
  } catch (error) {
    throw await storeError(error, { root, action: 'read', name: '' });
  }
}

function errnoOf(error: unknown): number | undefined {
  return error instanceof Error && 'errno' in error && typeof error.errno === 'number' ? error.errno : undefined;
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
