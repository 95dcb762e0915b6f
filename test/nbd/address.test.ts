// Addresses of exports, in the spellings of the specification and in those that must not be taken for something else.

import { describe, expect, it } from 'vitest';
import { describeAddress, isNbdAddress, parseNbdAddress } from '../../src/nbd/client/address.ts';

const tcp = (host: string, port = 10_809) => ({ kind: 'tcp', host, port });

describe('an address', () => {
  it.each([
    ['nbd://example.com/disk', { place: tcp('example.com'), exportName: 'disk' }],
    ['nbd://example.com:999/', { place: tcp('example.com', 999), exportName: '' }],
    ['nbd://example.com', { place: tcp('example.com'), exportName: '' }],
    ['nbd://example.com//disk', { place: tcp('example.com'), exportName: '/disk' }],
    ['nbd://example.com/hello%20world', { place: tcp('example.com'), exportName: 'hello world' }],
    ['nbd://example.com/a/b', { place: tcp('example.com'), exportName: 'a/b' }],
    ['nbd://[::1]:10810/x', { place: tcp('::1', 10_810), exportName: 'x' }],
    ['nbd://127.0.0.1:/x', { place: tcp('127.0.0.1'), exportName: 'x' }],
    ['nbd+unix:///disk?socket=/run/nbd.sock', { place: { kind: 'unix', path: '/run/nbd.sock' }, exportName: 'disk' }],
    ['nbd+unix:///?socket=%00abstract', { place: { kind: 'unix', path: '\0abstract' }, exportName: '' }],
    ['nbds://h/d?tls-type=x509&tls-hostname=other', { place: tcp('h'), exportName: 'd', tls: { type: 'x509', hostname: 'other' } }],
    ['nbds://alice@h/d?tls-psk-file=/k', { place: tcp('h'), exportName: 'd', tls: { pskFile: '/k', username: 'alice' } }],
    ['nbds+unix://alice@/d?socket=s', { place: { kind: 'unix', path: 's' }, exportName: 'd', tls: { username: 'alice' } }],
    ['nbds://h/d?tls-verify-peer=1', { place: tcp('h'), exportName: 'd', tls: {} }],
  ])('%s', (text, expected) => {
    expect(isNbdAddress(text)).toBe(true);
    expect(parseNbdAddress(text)).toEqual(expected);
    // What is shown leads to the same place.
    const again = parseNbdAddress(describeAddress(parseNbdAddress(text)));
    expect({ place: again.place, exportName: again.exportName, secure: again.tls !== undefined }).toEqual({
      place: expected.place,
      exportName: expected.exportName,
      secure: 'tls' in expected,
    });
  });

  it.each([
    'http://example.com/disk',
    'nbd:example.com',
    'nbd+ssh://host/disk',
    'nbd:///disk',
    'nbd://h:0/d',
    'nbd://h:65536/d',
    'nbd://h:x/d',
    'nbd://[::1/d',
    'nbd://h/d#part',
    'nbd://h/%00',
    'nbd://h/%ff',
    'nbd://h/%',
    `nbd://h/${'x'.repeat(4097)}`,
    'nbd://h/d?socket=/s',
    'nbd://h/d?unknown=1',
    'nbd+unix:///d',
    'nbd+unix:///d?socket=',
    'nbd+unix://host/d?socket=/s',
    'nbd+unix:///d?socket=a&socket=b',
    'nbd+unix:///d?socket=a%00b',
    'nbd://h/d?tls-hostname=x',
    'nbd://alice@h/d',
    'nbds://alice:secret@h/d',
    'nbds://h/d?tls-type=anon',
    'nbds://h/d?tls-verify-peer=0',
    'nbds://h/d?tls-certificates=/a&tls-psk-file=/b',
  ])('is not %s', (text) => {
    expect(() => parseNbdAddress(text)).toThrow(
      expect.objectContaining({ code: 'CONFIG_INVALID', message: expect.not.stringContaining('secret') }),
    );
  });
});
