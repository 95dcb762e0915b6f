// Connections that are proved by a key both sides have: the cipher suites for them, and what is a key.

import { ChainkeepError } from '../plumbing/errors.ts';
import type { Secret } from '../plumbing/secret.ts';

/** With forward secrecy first; none without encryption, none that needs a certificate. */
export const PSK_CIPHERS =
  'TLS_AES_128_GCM_SHA256:kECDHEPSK+AESGCM:kECDHEPSK+CHACHA20:kDHEPSK+AESGCM:ECDHE-PSK-AES256-CBC-SHA384:ECDHE-PSK-AES128-CBC-SHA256:kPSK+AESGCM';

const SHORTEST_KEY = 16;

/** The bytes of a key in hexadecimal digits. Throws CONFIG_INVALID: a part of a text is never taken for a key. */
export function pskBytes(key: Secret): Buffer {
  const digits = key.reveal();
  const bytes = Buffer.from(digits, 'hex');
  if (bytes.length >= SHORTEST_KEY && bytes.length * 2 === digits.length) return bytes;
  throw new ChainkeepError('CONFIG_INVALID', `TLS cannot be used: a key is not ${SHORTEST_KEY} bytes or more in hexadecimal digits`, {
    advice: 'make one with: psktool -u NAME -p FILE, or openssl rand -hex 32',
  });
}
