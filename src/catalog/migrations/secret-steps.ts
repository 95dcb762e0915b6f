// The table of secrets, which came after the first tables.
// Released steps are history: they are never changed.

import type { Step } from './portability.ts';

export const SECRET_STEPS: readonly Step[] = [
  (is) =>
    is.table('secrets', {
      columns: [
        is.varchar('id', 64, { primaryKey: true }),
        is.varchar('repository_id', 64),
        is.varchar('name', 64),
        is.varchar('key_id', 64),
        is.longText('sealed'),
        is.createdAt(),
        is.updatedAt(),
      ],
      unique: { unique_secret: ['repository_id', 'name'] },
      references: [{ column: 'repository_id', table: 'backup_repositories', key: 'id', onDelete: 'cascade' }],
    }),
  (is) => is.followUpdates('secrets', 'id'),
];
