// The answers of the stub for immutability, in the forms of Azure: headers, error documents, listings with versions.

import type { KeptVersion, KeptVersions } from './azure-kept-versions.ts';

export interface StubAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Buffer;
}

export function fault(status: number, code: string): StubAnswer {
  const body = `<?xml version="1.0" encoding="utf-8"?><Error><Code>${code}</Code><Message>${code} by the stub</Message></Error>`;
  return { status, headers: { 'x-ms-error-code': code, 'content-type': 'application/xml' }, body: Buffer.from(body) };
}

export function versionHeaders(version: KeptVersion): Record<string, string> {
  return {
    'x-ms-version-id': version.id,
    ...(version.current && { 'x-ms-is-current-version': 'true' }),
    ...(version.until && { 'x-ms-immutability-policy-until-date': version.until.toUTCString() }),
    ...(version.mode && { 'x-ms-immutability-policy-mode': version.mode }),
    ...(version.hold && { 'x-ms-legal-hold': 'true' }),
  };
}

export interface ListingQuery {
  readonly prefix: string;
  readonly marker: string;
  readonly most: number;
}

/** Versions of one name may lie on two pages, as with Azure. */
export function versionListing(kept: KeptVersions, { prefix, marker, most }: ListingQuery): StubAnswer {
  const all = kept.keys().flatMap((key) => (key.startsWith(prefix) ? kept.of(key).map((version) => ({ key, version })) : []));
  const start = marker === '' ? 0 : Number(marker);
  const page = all.slice(start, start + most);
  const next = start + most < all.length ? String(start + most) : '';
  const blobs = page.map(({ key, version }) => listed(key, version)).join('');
  const body = `<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Prefix>${escaped(prefix)}</Prefix><Blobs>${blobs}</Blobs><NextMarker>${next}</NextMarker></EnumerationResults>`;
  return { status: 200, headers: { 'content-type': 'application/xml' }, body: Buffer.from(body) };
}

function listed(key: string, { id, current, size, etag, modified, until, mode, hold }: KeptVersion): string {
  const policy = until ? tag('ImmutabilityPolicyUntilDate', until.toUTCString()) + tag('ImmutabilityPolicyMode', mode ?? '') : '';
  const properties = [
    tag('Creation-Time', modified.toUTCString()),
    tag('Last-Modified', modified.toUTCString()),
    tag('Etag', etag.replaceAll('"', '')),
    tag('Content-Length', String(size)),
    tag('BlobType', 'BlockBlob'),
    policy,
    hold ? tag('LegalHold', 'true') : '',
  ].join('');
  const version = tag('VersionId', id) + (current ? tag('IsCurrentVersion', 'true') : '');
  return `<Blob>${tag('Name', key)}${version}<Properties>${properties}</Properties></Blob>`;
}

function tag(name: string, value: string): string {
  return `<${name}>${escaped(value)}</${name}>`;
}

function escaped(value: string): string {
  return value.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
