// A process of the conformance suite: tries to create many blobs that another process wants too, and prints the names it won.
// Arguments: store type, its settings as JSON, own mark, number of blobs, the moment to start (milliseconds since 1970).

import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../plumbing/clock.ts';
import { isChainkeepError } from '../../plumbing/errors.ts';
import type { BlobStore } from '../blob-store.ts';
import { parseStoreConfig } from '../parse-config.ts';
import { openStore } from '../registry.ts';

async function tryCreate(store: BlobStore, name: string, content: string): Promise<boolean> {
  const sink = await store.put(name, { ifAbsent: true });
  try {
    await sink.append([Buffer.from(content)]);
    await sink.finish(new Uint8Array(0));
    return true;
  } catch (error) {
    await sink.abort();
    if (isChainkeepError(error, 'BLOB_EXISTS')) return false;
    throw error;
  }
}

const [type = '', config = '', mark = '', count = '', start = ''] = process.argv.slice(2);
const parsed = await parseStoreConfig(type, { config: JSON.parse(config) });
const store = await openStore(type, { ...parsed.config, ...parsed.secrets }, { create: false });
await sleep(Number(start) - systemClock.now());
const won: string[] = [];
for (let index = 0; index < Number(count); index += 1) {
  const name = `race/${index}.json`;
  if (await tryCreate(store, name, mark)) won.push(name);
}
await store.close();
process.stdout.write(JSON.stringify(won));
