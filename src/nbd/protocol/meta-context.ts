// Metadata contexts: how they are asked for and named, and what the bits of those we know mean.

import { protocolBreach } from './breach.ts';
import { encodeText, parseText } from './text.ts';
import { dataView } from './view.ts';

/** What is allocated and what reads as zeros; the one context of the specification itself. */
export const BASE_ALLOCATION = 'base:allocation';
export const ALLOCATION_FLAG = { HOLE: 1, ZERO: 2 } as const;

/** QEMU's: what was written since a bitmap was made. */
export const DIRTY_BITMAP_PREFIX = 'qemu:dirty-bitmap:';
export const DIRTY_FLAG = 1;

/**
 * Data of NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT:
 *    0        u32  length of the export's name
 *    4             name
 *    4 + n    u32  number of queries
 *    8 + n         each: u32 length, then the query
 */
export interface ContextQuery {
  readonly exportName: string;
  readonly queries: readonly string[];
}

export function encodeContextQuery({ exportName, queries }: ContextQuery): Buffer {
  const count = Buffer.alloc(4);
  count.writeUInt32BE(queries.length);
  return Buffer.concat([withLength(exportName), count, ...queries.map(withLength)]);
}

function withLength(text: string): Buffer {
  const bytes = encodeText(text);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

/** Undefined for data that do not add up: the server answers ERR_INVALID and goes on. */
export function parseContextQuery(data: Uint8Array): ContextQuery | undefined {
  const view = dataView(data);
  let at = 0;
  const number = (): number | undefined => {
    if (data.length - at < 4) return undefined;
    at += 4;
    return view.getUint32(at - 4);
  };
  const text = (): string | undefined => {
    const length = number();
    if (length === undefined || length > data.length - at) return undefined;
    at += length;
    return parseText(data.subarray(at - length, at));
  };
  const exportName = text();
  const count = number();
  if (exportName === undefined || count === undefined) return undefined;
  const queries: string[] = [];
  // Each takes at least its length, so the data bound how many there are, whatever the count says.
  for (let index = 0; index < count; index++) {
    const query = text();
    if (query === undefined) return undefined;
    queries.push(query);
  }
  return at === data.length ? { exportName, queries } : undefined;
}

/**
 * Data of REP_META_CONTEXT:
 *    0  u32  number of the context on this connection; without meaning in a list
 *    4       name
 */
export interface MetaContext {
  readonly id: number;
  readonly name: string;
}

export function encodeMetaContext({ id, name }: MetaContext): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(id);
  return Buffer.concat([bytes, encodeText(name)]);
}

export function parseMetaContext(data: Uint8Array): MetaContext {
  const name = data.length < 5 ? undefined : parseText(data.subarray(4));
  if (name === undefined) throw protocolBreach('the name of a metadata context is no text', { length: data.length });
  return { id: dataView(data).getUint32(0), name };
}
