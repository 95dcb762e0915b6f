// The forecast of a repository from its samples in the catalog.

import type { BackupRepository } from '../catalog/backup-repositories.ts';
import type { Catalog } from '../catalog/catalog.ts';
import { listSamples } from '../catalog/storage-samples.ts';
import { type Forecast, forecast } from './forecast.ts';

/** What is longer ago says little of what comes. */
const DAYS = 60;

export async function forecastStorage(
  catalog: Catalog,
  { id, total_size_bytes, available_size_bytes }: BackupRepository,
): Promise<Forecast> {
  const samples = await listSamples(catalog, id, catalog.clock.now() - DAYS * 86_400_000);
  const measured = samples.map(({ sampled_at, used_bytes }) => ({ at: Date.parse(sampled_at), usedBytes: used_bytes }));
  return forecast(measured, total_size_bytes > 0 ? available_size_bytes : undefined);
}
