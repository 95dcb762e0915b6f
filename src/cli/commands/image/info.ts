// `image info`: the fields of `qemu-img info`.

import { openFileSource } from '../../../plumbing/file-source.ts';
import { type ImageInfo, readImageInfo } from '../../../qcow2/image-info.ts';
import { type CliContext, printAnswer } from '../../cli-context.ts';
import { safeText } from '../../safe-text.ts';
import { formatSize } from '../../size-text.ts';
import { renderFields, renderTable } from '../../table.ts';
import { formatTime } from '../../time-text.ts';

export async function printImageInfo(context: CliContext, file: string): Promise<void> {
  const source = await openFileSource(file);
  try {
    const info = await readImageInfo(source);
    printAnswer(context, info, () => renderInfo(info));
  } finally {
    await source.close();
  }
}

function renderInfo(info: ImageInfo): string {
  const { data } = info['format-specific'];
  const actual = info['actual-size'];
  const backing = info['backing-filename'];
  const format = info['backing-filename-format'] ?? 'format not said';
  const flags = { 'lazy refcounts': data['lazy-refcounts'], corrupt: data.corrupt, 'extended l2': data['extended-l2'] };
  const fields = renderFields({
    image: info.filename,
    'file format': info.format,
    'virtual size': `${formatSize(info['virtual-size'])} (${info['virtual-size']} bytes)`,
    ...(actual !== undefined && { 'disk size': formatSize(actual) }),
    'cluster size': String(info['cluster-size']),
    ...(backing !== undefined && { 'backing file': `${backing} (${format})` }),
    compat: data.compat,
    'compression type': data['compression-type'],
    'refcount bits': String(data['refcount-bits']),
    ...Object.fromEntries(Object.entries(flags).flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value)]]))),
    'dirty flag': String(info['dirty-flag']),
  });
  const warnings = info.warnings.map((warning) => `note: ${safeText(warning)}\n`).join('');
  return fields + renderSnapshots(info) + renderBitmaps(info) + warnings;
}

function renderSnapshots({ snapshots = [] }: ImageInfo): string {
  if (snapshots.length === 0) return '';
  const table = renderTable(
    [
      { title: 'SNAPSHOT', cell: (row) => row.id },
      { title: 'NAME', cell: (row) => row.name },
      { title: 'VM STATE', cell: (row) => formatSize(row['vm-state-size']), side: 'right' },
      { title: 'CREATED', cell: (row) => formatTime(new Date(row['date-sec'] * 1000).toISOString()) },
    ],
    snapshots,
  );
  return `\n${table}`;
}

function renderBitmaps(info: ImageInfo): string {
  const { bitmaps = [] } = info['format-specific'].data;
  if (bitmaps.length === 0) return '';
  const table = renderTable(
    [
      { title: 'BITMAP', cell: (row) => row.name },
      { title: 'GRANULARITY', cell: (row) => String(row.granularity), side: 'right' },
      { title: 'FLAGS', cell: (row) => row.flags.join(', ') },
    ],
    bitmaps,
  );
  return `\n${table}`;
}
