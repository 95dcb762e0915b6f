// `repo storage`: how full the repositories are, how they grow, and when they will be full.

import { Command } from 'commander';
import type { StorageView } from '../../app-interface.ts';
import { cliContext, printAnswer } from '../cli-context.ts';
import { type BarLine, renderBars } from '../render-bars.ts';
import { formatSize } from '../size-text.ts';
import { renderTable } from '../table.ts';
import { formatTime } from '../time-text.ts';
import { withApp } from '../with-app.ts';

export function storageCommand(): Command {
  return new Command('storage')
    .description('how full they are, how they grow, and when they will be full')
    .option('--refresh', 'ask the stores now')
    .action(async (options: { readonly refresh?: boolean }, command: Command) => {
      const context = cliContext(command);
      const repositories = await withApp(context, (app) => app.storageOfRepositories({ refresh: options.refresh ?? false }));
      printAnswer(context, { totals: totalsOf(repositories), repositories: repositories.map(answerOf) }, () => render(repositories));
    });
}

function answerOf(repository: StorageView) {
  const { repository_id, name, type, enabled, health, problem, storage } = repository;
  const { health_status, reserved_bytes, growth_bytes_per_day, days_until_full } = repository;
  return {
    repository_id,
    name,
    type,
    enabled,
    health,
    health_status,
    problem,
    ...storage,
    reserved_bytes,
    growth_bytes_per_day,
    days_until_full,
  };
}

/** Of those that tell. Two repositories on one disk are counted twice: nothing here knows that they share it. */
function totalsOf(repositories: readonly StorageView[]) {
  const sum = (of: (storage: StorageView['storage']) => number): number => repositories.reduce((all, { storage }) => all + of(storage), 0);
  return {
    total_bytes: sum((storage) => storage.total_bytes),
    used_bytes: sum((storage) => storage.used_bytes),
    available_bytes: sum((storage) => storage.available_bytes),
  };
}

function render(repositories: readonly StorageView[]): string {
  if (repositories.length === 0) return 'no repository is registered\n';
  const { isTTY, columns } = process.stdout;
  return isTTY ? renderBars(repositories.map(barOf), columns || 80) : renderLines(repositories);
}

function barOf(repository: StorageView): BarLine {
  const { name, health_status: status, storage, reserved_bytes: reserved } = repository;
  const { total_bytes: total, available_bytes: available, used_bytes: used, used_percentage: percentage } = storage;
  const all = total > 0 ? used + available : 0;
  const details = [
    all > 0 ? `${formatSize(available)} free of ${formatSize(all)}` : `${formatSize(used)} used; the store does not tell how much is free`,
    ...(reserved > 0 ? [`${formatSize(reserved)} reserved`] : []),
    growthOf(repository),
    ...(status === 'healthy' || status === 'unknown' ? [] : [status]),
    ...(repository.problem === null ? [] : [repository.problem]),
  ];
  return {
    name,
    parts: all > 0 ? { used: used / all, reserved: Math.min(reserved, available) / all } : undefined,
    label: all > 0 ? `${percentage.toFixed(1)} %` : '-',
    details: details.filter((detail) => detail !== ''),
  };
}

function growthOf({ growth_bytes_per_day: growth, days_until_full: days }: StorageView): string {
  if (growth === null) return '';
  const a = growth < 0 ? `shrinks by ${formatSize(-growth)} a day` : `grows by ${formatSize(growth)} a day`;
  return days === null ? a : `${a}, full in ${days.toFixed(days < 10 ? 1 : 0)} days`;
}

function renderLines(repositories: readonly StorageView[]): string {
  return renderTable(
    [
      { title: 'NAME', cell: (row) => row.name },
      { title: 'STATUS', cell: (row) => row.health_status },
      { title: 'TOTAL', cell: (row) => formatSize(row.storage.total_bytes), side: 'right' },
      { title: 'USED', cell: (row) => formatSize(row.storage.used_bytes), side: 'right' },
      { title: 'FREE', cell: (row) => formatSize(row.storage.available_bytes), side: 'right' },
      { title: 'USED %', cell: (row) => row.storage.used_percentage.toFixed(1), side: 'right' },
      { title: 'GROWTH/DAY', cell: (row) => signed(row.growth_bytes_per_day), side: 'right' },
      { title: 'FULL IN', cell: ({ days_until_full: days }) => (days === null ? '-' : `${days.toFixed(1)} days`), side: 'right' },
      { title: 'LAST CHECK', cell: (row) => formatTime(row.storage.last_check_at) },
      { title: 'PROBLEM', cell: (row) => row.problem ?? '' },
    ],
    repositories,
  );
}

function signed(bytes: number | null): string {
  if (bytes === null) return '-';
  return bytes < 0 ? `-${formatSize(-bytes)}` : formatSize(bytes);
}
