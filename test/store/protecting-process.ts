// A process that protects, deletes and releases one blob of a local store: FOLDER NAME ACTION…; prints its mark and how each action went.

import { isChainkeepError } from '../../src/plumbing/errors.ts';
import { openLocalStore } from '../../src/store/local/local-store.ts';

const [folder = '', name = '', ...actions] = process.argv.slice(2);
const store = await openLocalStore(folder, { create: false });
const results: string[] = [];
for (const action of actions) {
  const run = { protect: () => store.protect(name, { hold: true }), delete: () => store.delete(name), release: () => store.release(name) }[
    action
  ];
  const end = await run?.().then(
    () => 'done',
    (error: unknown) => (isChainkeepError(error) ? error.code : String(error)),
  );
  results.push(`${action} ${end}`);
}
process.stdout.write(`${store.capabilities.retentionMark}: ${results.join(', ')}\n`);
