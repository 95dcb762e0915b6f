// Cipher suites for connections that are proved by a key both sides have.

/** With forward secrecy first; none without encryption, none that needs a certificate. */
export const PSK_CIPHERS =
  'TLS_AES_128_GCM_SHA256:kECDHEPSK+AESGCM:kECDHEPSK+CHACHA20:kDHEPSK+AESGCM:ECDHE-PSK-AES256-CBC-SHA384:ECDHE-PSK-AES128-CBC-SHA256:kPSK+AESGCM';
