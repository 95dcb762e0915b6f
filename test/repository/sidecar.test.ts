// A sidecar byte by byte, and the sealed JSON that it is.

import { describe, expect, it } from 'vitest';
import { loadBlake3 } from '../../src/plumbing/blake3.ts';
import { encodeSealed, parseSealed } from '../../src/repository/sealed-json.ts';
import { encodeSidecar, parseSidecar } from '../../src/repository/sidecar.ts';
import type { Sidecar } from '../../src/repository/sidecar-fields.ts';
import { sidecarOf } from './made-up-sidecar.ts';

const blake3 = await loadBlake3();

describe('a sidecar', () => {
  const sidecar = sidecarOf('child', sidecarOf('parent'), {
    vm_name: 'a "name"\n with \u{1F600} and \ud800',
    metadata: { checksum: 'x', deep: [1, { a: null }] },
  });
  const parse = (bytes: Uint8Array, id = 'child'): Sidecar => parseSidecar(blake3, bytes, id);
  const changed = (change: object): Buffer => encodeSealed(blake3, { ...sidecar, ...change });

  it('is read as it was written, and is text', () => {
    const bytes = encodeSidecar(blake3, sidecar);
    expect(parse(bytes)).toEqual(sidecar);
    expect(JSON.parse(bytes.toString('utf8'))).toMatchObject({ ...sidecar, checksum: expect.stringMatching(/^blake3:[0-9a-f]{64}$/) });
  });

  it('is damaged when any byte of it is another', () => {
    const bytes = encodeSidecar(blake3, sidecar);
    for (let offset = 0; offset < bytes.length; offset++) {
      for (let bit = 0; bit < 8; bit++) {
        const flipped = Buffer.from(bytes);
        flipped.writeUInt8((bytes[offset] ?? 0) ^ (1 << bit), offset);
        expect(() => parse(flipped), `byte ${offset} bit ${bit}`).toThrow(expect.objectContaining({ code: 'SIDECAR_INVALID' }));
      }
    }
    for (let size = 0; size < bytes.length; size++)
      expect(() => parse(bytes.subarray(0, size))).toThrow(expect.objectContaining({ code: 'SIDECAR_INVALID' }));
    const others = [
      Buffer.concat([Buffer.from(' '), bytes]),
      Buffer.concat([bytes, Buffer.from(' ')]),
      Buffer.concat([Buffer.from('\ufeff'), bytes]),
      Buffer.concat([bytes, bytes]),
    ];
    for (const other of others) expect(() => parse(other)).toThrow(expect.objectContaining({ code: 'SIDECAR_INVALID' }));
  });

  it('has fields that fit, also when its checksum does', () => {
    const wrong: object[] = [
      { format: 2 },
      { backup_id: 'other' },
      { backup_id: '../x' },
      { vm_name: 5 },
      { external_id: undefined },
      { disk_id: -1 },
      { disk_id: 1.5 },
      { backup_type: 'synthetic' },
      { backup_type: 'full' },
      { parent_backup_id: null },
      { parent_backup_id: 'child' },
      { parent_content_root: null },
      { parent_content_root: 'ABC' },
      { content_root: '' },
      { size_bytes: '5' },
      { total_bytes: 2 ** 60 },
      { started_at: '2026-11-22' },
      { qcow2: null },
      { qcow2: [] },
      { qcow2: { ...sidecar.qcow2, compression: 'lzma' } },
      { qcow2: { ...sidecar.qcow2, generation: 2 } },
      { digests: { ...sidecar.digests, name: '../../other.1.digests' } },
      { digests: { ...sidecar.digests, algorithm: 'md5' } },
      { digests: 'x' },
      { metadata: 'x' },
      { metadata: [] },
      { tool: null },
    ];
    for (const change of wrong)
      expect(() => parse(changed(change)), JSON.stringify(change)).toThrow(expect.objectContaining({ code: 'SIDECAR_INVALID' }));
    expect(() => parse(encodeSealed(blake3, sidecarOf('f', null, { backup_type: 'incremental' })), 'f')).toThrow(
      /incremental backup without a parent/,
    );
    const next = { ...sidecar, qcow2: { ...sidecar.qcow2, generation: 2 }, digests: { ...sidecar.digests, name: 'child.2.digests' } };
    expect(parse(encodeSealed(blake3, next)).qcow2.generation).toBe(2);
  });

  it('is JSON, an object, and UTF-8', () => {
    const sealed = (body: Buffer | string): Buffer => {
      const text = Buffer.from(body);
      const seal = Buffer.from(blake3.hash(text)).toString('hex');
      return Buffer.concat([text, Buffer.from(`,\n  "checksum": "blake3:${seal}"\n}\n`)]);
    };
    expect(parseSealed(blake3, sealed('{\n  "a": 1'))).toEqual({ value: { a: 1 } });
    expect(parseSealed(blake3, sealed('{\n  "a": '))).toEqual({ fault: 'it is not JSON' });
    expect(parseSealed(blake3, sealed('[1'))).toEqual({ fault: 'it is not JSON' });
    // The text with a replacement character has the checksum, the bytes have something else in its place.
    const good = sealed('{\n  "a": "\ufffd"');
    const bad = Buffer.concat([good.subarray(0, 10), Buffer.from([0xff]), good.subarray(13)]);
    expect(parseSealed(blake3, good)).toMatchObject({ value: { a: '\ufffd' } });
    expect(parseSealed(blake3, bad)).toEqual({ fault: 'it is not UTF-8' });
  });
});
