// What a server says of its exports, without reading any of them.

import { ChainkeepError } from '../../plumbing/errors.ts';
import type { ListedExport } from '../protocol/option-reply.ts';
import { type ConnectOptions, resolveTarget, withNegotiation } from './connect-nbd.ts';
import type { ExportFacts, HeaderStyle } from './negotiation.ts';

export interface NbdInfo {
  /** As it may be shown. */
  readonly address: string;
  readonly exportName: string;
  readonly tls: boolean;
  readonly headers: HeaderStyle;
  readonly facts: ExportFacts;
  /** Names of all metadata contexts of the export. */
  readonly contexts: readonly string[];
}

/** Throws what `openNbdReader` throws. */
export async function readNbdInfo(address: string, options: ConnectOptions & { readonly signal?: AbortSignal } = {}): Promise<NbdInfo> {
  const target = await resolveTarget(address, options);
  const { exportName } = target.address;
  return withNegotiation(target, options.signal, async (negotiation) => {
    const contexts = await negotiation.listContexts(exportName);
    const asked = await negotiation.info(exportName);
    const facts = asked ?? (await negotiation.go(exportName));
    if (asked) negotiation.abort();
    else negotiation.socket.destroy();
    return { address: target.shown, exportName, tls: target.tls !== undefined, headers: negotiation.style, facts, contexts };
  });
}

/** Names of all exports. Throws EXPORT_REFUSED where the server does not tell, and what `openNbdReader` throws. */
export async function listNbdExports(
  address: string,
  options: ConnectOptions & { readonly signal?: AbortSignal } = {},
): Promise<readonly ListedExport[]> {
  const target = await resolveTarget(address, options);
  if (target.address.exportName !== '')
    throw new ChainkeepError('CONFIG_INVALID', 'a list of exports is asked of a server, and the address names an export', {
      advice: 'leave out what stands behind the host',
    });
  return withNegotiation(target, options.signal, async (negotiation) => {
    const exports = await negotiation.list();
    negotiation.abort();
    return exports;
  });
}
