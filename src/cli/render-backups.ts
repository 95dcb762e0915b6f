// Backups as a table, for `list` and `chain`.

import type { BackupView } from '../app-interface.ts';
import { formatSize } from './size-text.ts';
import { renderTable } from './table.ts';
import { formatTime } from './time-text.ts';

export function renderBackups(backups: readonly BackupView[]): string {
  return renderTable(
    [
      { title: 'BACKUP', cell: (row) => row.backup_id },
      { title: 'VM', cell: (row) => row.vm_name },
      { title: 'DISK', cell: (row) => String(row.disk_id), side: 'right' },
      { title: 'TYPE', cell: (row) => row.backup_type },
      { title: 'STATUS', cell: (row) => (row.problem === undefined ? row.status : `${row.status}, ${row.problem}`) },
      { title: 'STORED', cell: (row) => formatSize(row.size_bytes), side: 'right' },
      { title: 'DISK SIZE', cell: (row) => formatSize(row.total_bytes), side: 'right' },
      { title: 'CREATED', cell: (row) => formatTime(row.created_at) },
      { title: 'REPOSITORY', cell: (row) => row.repository },
    ],
    backups,
  );
}
