// A sidecar as bytes and back. The file beside an image that makes it a backup: written last, it is the commit.

import type { Blake3 } from '../plumbing/blake3.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import { choiceField, type Fields, nullableText, numberField, objectField, textField } from './fields.ts';
import { digestsFile } from './layout.ts';
import { encodeSealed, parseSealed } from './sealed-json.ts';
import type { Sidecar } from './sidecar-fields.ts';

const FORMAT = 1;
const ID = /^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$/;
const HASH = /^[0-9a-f]{64}$/;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

// A sidecar is about 1.5 KiB; metadata of a platform may make it larger. Every listing reads it.
export const MOST_SIDECAR_BYTES = 4 * 2 ** 20;

/** Throws CONFIG_INVALID when metadata make it larger than anybody would read back. */
export function encodeSidecar(blake3: Blake3, sidecar: Sidecar): Buffer {
  const bytes = encodeSealed(blake3, sidecar);
  if (bytes.length <= MOST_SIDECAR_BYTES) return bytes;
  throw new ChainkeepError('CONFIG_INVALID', `the sidecar of backup ${sidecar.backup_id} would have ${bytes.length} bytes`, {
    advice: `give less metadata with a backup: at most ${MOST_SIDECAR_BYTES} bytes are kept`,
    context: { backup_id: sidecar.backup_id, size: bytes.length, limit: MOST_SIDECAR_BYTES },
  });
}

/** Throws SIDECAR_INVALID when the bytes are not a sidecar of backup `backupId`. */
export function parseSidecar(blake3: Blake3, bytes: Uint8Array, backupId: string): Sidecar {
  const unsealed = parseSealed(blake3, bytes);
  if ('fault' in unsealed) throw invalidSidecar(backupId, unsealed.fault);
  let sidecar: Sidecar;
  try {
    sidecar = readFields(unsealed.value);
  } catch (error) {
    throw invalidSidecar(backupId, error instanceof Error ? error.message : String(error), error);
  }
  if (sidecar.backup_id !== backupId) throw invalidSidecar(backupId, `it is the sidecar of backup ${sidecar.backup_id}`);
  return sidecar;
}

function readFields(fields: Fields): Sidecar {
  if (fields.format !== FORMAT) throw new Error(`it has format ${String(fields.format)}, this version knows ${FORMAT}`);
  const qcow2 = objectField(fields, 'qcow2');
  const digests = objectField(fields, 'digests');
  const sidecar: Sidecar = {
    format: FORMAT,
    backup_id: textField(fields, 'backup_id', ID),
    restore_point_id: textField(fields, 'restore_point_id', ID),
    vm_context_id: textField(fields, 'vm_context_id', ID),
    vm_name: textField(fields, 'vm_name'),
    external_id: nullableText(fields, 'external_id'),
    disk_id: numberField(fields, 'disk_id'),
    backup_type: choiceField(fields, 'backup_type', ['full', 'incremental', 'differential']),
    parent_backup_id: nullableText(fields, 'parent_backup_id', ID),
    parent_content_root: nullableText(fields, 'parent_content_root', HASH),
    content_root: textField(fields, 'content_root', HASH),
    chain_id: textField(fields, 'chain_id', ID),
    origin_repository_id: nullableText(fields, 'origin_repository_id', ID),
    change_id: nullableText(fields, 'change_id'),
    size_bytes: numberField(fields, 'size_bytes'),
    total_bytes: numberField(fields, 'total_bytes'),
    started_at: textField(fields, 'started_at', TIME),
    created_at: textField(fields, 'created_at', TIME),
    completed_at: textField(fields, 'completed_at', TIME),
    bytes_read: numberField(fields, 'bytes_read'),
    source: textField(fields, 'source'),
    policy_id: nullableText(fields, 'policy_id', ID),
    qcow2: {
      virtual_size: numberField(qcow2, 'virtual_size'),
      cluster_size: numberField(qcow2, 'cluster_size'),
      compression: choiceField(qcow2, 'compression', ['none', 'zstd']),
      generation: numberField(qcow2, 'generation'),
    },
    digests: {
      name: textField(digests, 'name'),
      algorithm: choiceField(digests, 'algorithm', ['blake3']),
      root: textField(digests, 'root', HASH),
      structure: textField(digests, 'structure', HASH),
    },
    metadata: objectField(fields, 'metadata'),
    tool: textField(fields, 'tool'),
  };
  checkRelations(sidecar);
  return sidecar;
}

/** A full has no parent and the others have one; the digests are those of this backup and generation. */
function checkRelations(sidecar: Sidecar): void {
  const hasParent = sidecar.parent_backup_id !== null;
  if (hasParent !== (sidecar.backup_type !== 'full'))
    throw new Error(`a ${sidecar.backup_type} backup ${hasParent ? 'with' : 'without'} a parent`);
  if (hasParent !== (sidecar.parent_content_root !== null)) throw new Error('parent_backup_id and parent_content_root do not fit together');
  if (sidecar.parent_backup_id === sidecar.backup_id) throw new Error('it is its own parent');
  const name = digestsFile(sidecar.backup_id, sidecar.qcow2.generation);
  if (sidecar.digests.name !== name) throw new Error(`digests.name is "${sidecar.digests.name.slice(0, 100)}" instead of ${name}`);
}

export function invalidSidecar(backupId: string, what: string, cause?: unknown): ChainkeepError {
  return new ChainkeepError('SIDECAR_INVALID', `the sidecar of backup ${backupId} is damaged: ${what}`, {
    advice: 'verify the repository; restore the sidecar from a copy if there is one',
    context: { backup_id: backupId },
    cause,
  });
}
