// `nbd info`: the fields of `nbdinfo`, as far as both know them.

import { listNbdExports, type NbdInfo, readNbdInfo } from '../../../nbd/client/nbd-info.ts';
import { hasFlag } from '../../../nbd/protocol/transmission-flags.ts';
import { type CliContext, printAnswer } from '../../cli-context.ts';
import { safeText } from '../../safe-text.ts';
import { formatSize } from '../../size-text.ts';
import { renderFields, renderTable } from '../../table.ts';
import { withWatch } from '../../with-app.ts';

export async function printNbdInfo(context: CliContext, address: string): Promise<void> {
  const info = await withWatch(context, ({ signal }) => readNbdInfo(address, signal ? { signal } : {}));
  const answer = describe(info);
  printAnswer(context, answer, () => {
    const { contexts, 'export-size': size, ...others } = answer;
    const fields = Object.entries(others).map(([name, value]) => [name, safeText(String(value))]);
    return renderFields({
      ...Object.fromEntries(fields),
      'export-size': `${formatSize(size)} (${size} bytes)`,
      contexts: safeText(contexts.join(', ')) || 'none',
    });
  });
}

function describe({ address, exportName, tls, headers, facts, contexts }: NbdInfo) {
  const { flags, blockSize, description, size } = facts;
  return {
    'export-name': exportName,
    ...(description !== undefined && { description }),
    uri: address,
    TLS: tls,
    headers,
    contexts,
    is_read_only: hasFlag(flags, 'READ_ONLY'),
    is_rotational: hasFlag(flags, 'ROTATIONAL'),
    can_cache: hasFlag(flags, 'SEND_CACHE'),
    can_df: hasFlag(flags, 'SEND_DF'),
    can_fast_zero: hasFlag(flags, 'SEND_FAST_ZERO'),
    can_flush: hasFlag(flags, 'SEND_FLUSH'),
    can_fua: hasFlag(flags, 'SEND_FUA'),
    can_multi_conn: hasFlag(flags, 'CAN_MULTI_CONN'),
    can_trim: hasFlag(flags, 'SEND_TRIM'),
    can_zero: hasFlag(flags, 'SEND_WRITE_ZEROES'),
    block_size_minimum: blockSize.minimum,
    block_size_preferred: blockSize.preferred,
    block_size_maximum: blockSize.maximum,
    'export-size': size,
  };
}

export async function printExportList(context: CliContext, address: string): Promise<void> {
  const exports = await withWatch(context, ({ signal }) => listNbdExports(address, signal ? { signal } : {}));
  printAnswer(context, { exports }, () =>
    renderTable(
      [
        { title: 'EXPORT', cell: (row) => row.name },
        { title: 'DESCRIPTION', cell: (row) => row.description },
      ],
      exports,
    ),
  );
}
