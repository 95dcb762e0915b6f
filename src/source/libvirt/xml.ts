// As much of XML as libvirt writes: elements, attributes, text; comments and CDATA, which only the metadata of others hold, are passed over. What it does not understand is an error; nothing outside of the text is ever loaded.

import { ChainkeepError } from '../../plumbing/errors.ts';

export interface XmlElement {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: readonly XmlElement[];
  /** All text directly in it. */
  readonly text: string;
}

interface OpenElement extends XmlElement {
  readonly children: XmlElement[];
  text: string;
}

const TOKEN =
  /<!--[\s\S]*?-->|<!\[CDATA\[[\s\S]*?\]\]>|<\?[\s\S]*?\?>|<\/([\w:.-]+)\s*>|<([\w:.-]+)((?:\s+[\w:.-]+\s*=\s*(?:"[^"<]*"|'[^'<]*'))*)\s*(\/?)>|([^<]+)/gy;
const ATTRIBUTE = /([\w:.-]+)\s*=\s*(?:"([^"]*)"|'([^']*)')/g;

/** The root element. Throws HYPERVISOR_FAILED. */
export function parseXml(text: string): XmlElement {
  const top: OpenElement = { name: '', attributes: {}, children: [], text: '' };
  const open: OpenElement[] = [top];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const token = TOKEN.exec(text);
    const parent = open.at(-1);
    if (!token || !parent) throw broken();
    const [, closed, opened, attributes = '', isEmpty, characters] = token;
    if (closed !== undefined && (open.pop()?.name !== closed || open.length === 0)) throw broken();
    if (characters !== undefined) parent.text += unescapeXml(characters);
    if (opened === undefined) continue;
    const element: OpenElement = { name: opened, attributes: parseAttributes(attributes), children: [], text: '' };
    parent.children.push(element);
    if (isEmpty !== '/') open.push(element);
  }
  const [root] = top.children;
  if (open.length !== 1 || top.children.length !== 1 || !root) throw broken();
  return root;
}

/** Its children of this name, or those at the end of a path of names. */
export function childrenOf(element: XmlElement, ...path: readonly string[]): readonly XmlElement[] {
  return path.reduce<readonly XmlElement[]>(
    (found, name) => found.flatMap(({ children }) => children.filter((child) => child.name === name)),
    [element],
  );
}

/** For an attribute or for text. */
export function escapeXml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

function unescapeXml(text: string): string {
  return text.replace(/&(?:#(\d+)|#x([0-9a-fA-F]+)|(\w+));/g, (_all, decimal, hex, name) => {
    if (name !== undefined) return ENTITIES[name] ?? '';
    return String.fromCodePoint(decimal === undefined ? Number.parseInt(hex, 16) : Number(decimal));
  });
}

function parseAttributes(text: string): Record<string, string> {
  const attributes: [string, string][] = [];
  for (const [, name = '', double, single] of text.matchAll(ATTRIBUTE)) attributes.push([name, unescapeXml(double ?? single ?? '')]);
  return Object.fromEntries(attributes);
}

function broken(): ChainkeepError {
  return new ChainkeepError('HYPERVISOR_FAILED', 'libvirt answered XML that cannot be read', { advice: 'look at: virsh dumpxml DOMAIN' });
}
