// The settings of an S3 repository out of a checked configuration. It must not bring zod: stores are opened with it.

import { ChainkeepError } from '../../plumbing/errors.ts';
import type { Secret } from '../../plumbing/secret.ts';
import { numberIn, secretIn, textIn } from '../config-values.ts';
import { type ObjectSettings, objectSettings } from '../object/object-settings.ts';
import { placeOf } from '../place-of.ts';
import type { StoreConfig } from '../store-kind.ts';

export interface S3Keys {
  readonly id: string;
  readonly secret: Secret;
  readonly token: Secret | undefined;
}

export type Encryption =
  | { readonly kind: 'none' }
  | { readonly kind: 'aes256' }
  | { readonly kind: 'kms'; readonly keyId: string | undefined }
  | { readonly kind: 'customer'; readonly key: Secret };

export interface S3Settings extends ObjectSettings {
  /** For messages. */
  readonly place: string;
  readonly region: string;
  readonly bucket: string;
  /** Empty, or ends in a slash. */
  readonly prefix: string;
  /** Undefined for AWS itself. */
  readonly endpoint: string | undefined;
  readonly pathStyle: boolean;
  /** Undefined: the credentials that the machine has. */
  readonly keys: S3Keys | undefined;
  /** Undefined: no Object Lock. */
  readonly lockMode: 'COMPLIANCE' | 'GOVERNANCE' | undefined;
  readonly encryption: Encryption;
  readonly checksums: boolean;
  readonly limits: { readonly maxBlobSize: number; readonly maxParts: number; readonly equalParts: boolean };
}

export function s3Settings(config: StoreConfig): S3Settings {
  const bucket = textIn(config, 'bucket');
  if (bucket === undefined) {
    throw new ChainkeepError('CONFIG_INVALID', 'an S3 repository needs the setting "bucket"', {
      advice: 'register it again with its bucket',
    });
  }
  const prefix = textIn(config, 'prefix') ?? '';
  return {
    ...objectSettings(config),
    place: placeOf('s3', config),
    region: textIn(config, 'region') ?? 'us-east-1',
    bucket,
    prefix: prefix === '' ? '' : `${prefix}/`,
    endpoint: textIn(config, 'endpoint'),
    pathStyle: config.path_style === true,
    keys: keysOf(config),
    lockMode: config.use_object_lock !== true ? undefined : config.object_lock_mode === 'governance' ? 'GOVERNANCE' : 'COMPLIANCE',
    encryption: encryptionOf(config),
    checksums: config.checksums !== false,
    limits: {
      maxBlobSize: numberIn(config, 'max_object_size_gib', 5120) * 2 ** 30,
      maxParts: numberIn(config, 'max_parts', 10_000),
      equalParts: config.equal_parts === true,
    },
  };
}

function keysOf(config: StoreConfig): S3Keys | undefined {
  const id = textIn(config, 'access_key_id');
  const key = secretIn(config, 'secret_access_key');
  return id !== undefined && key ? { id, secret: key, token: secretIn(config, 'session_token') } : undefined;
}

function encryptionOf(config: StoreConfig): Encryption {
  const kind = textIn(config, 'server_side_encryption');
  const key = secretIn(config, 'customer_key');
  if (kind === 'kms') return { kind, keyId: textIn(config, 'kms_key_id') };
  if (kind === 'customer' && key) return { kind, key };
  return kind === 'aes256' ? { kind } : { kind: 'none' };
}
