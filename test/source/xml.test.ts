// What libvirt says of a domain, with what others have put into it.

import { expect, it } from 'vitest';
import { childrenOf, escapeXml, parseXml } from '../../src/source/libvirt/xml.ts';

it('is read with attributes, text, comments and CDATA in the metadata of others', () => {
  const domain = parseXml(
    `<?xml version='1.0'?><domain type="qemu"><!-- <name>no</name> --><name>a &amp; b</name><metadata><x:note xmlns:x='u'><![CDATA[ <name>no</name> ]]></x:note></metadata><devices><disk device='disk'/><disk device='cdrom'><readonly/></disk></devices></domain>`,
  );
  expect(childrenOf(domain, 'name').map(({ text }) => text)).toEqual(['a & b']);
  expect(childrenOf(domain, 'devices', 'disk').map(({ attributes }) => attributes.device)).toEqual(['disk', 'cdrom']);
});

it('gives back what was escaped for it', () => {
  const text = `<a href="b">'c' & d</a>`;
  expect(parseXml(`<t v="${escapeXml(text)}">${escapeXml(text)}</t>`)).toMatchObject({ attributes: { v: text }, text });
});

it.each(['', 'text', '<a>', '<a></b>', '<a/><b/>', '<a><![CDATA[', '<!DOCTYPE a [<!ENTITY b "c">]><a/>'])(
  'is refused where it is broken: %s',
  (text) => {
    expect(() => parseXml(text)).toThrow(expect.objectContaining({ code: 'HYPERVISOR_FAILED' }));
  },
);
