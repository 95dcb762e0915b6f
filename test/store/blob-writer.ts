// A process for fault tests: writes one blob into a local store and prints what happened, as one line of JSON.
// Arguments: root folder, `create` or `replace`, content. Run it under strace to fail or kill any of its system calls.

import { isChainkeepError } from '../../src/plumbing/errors.ts';
import { openLocalStore } from '../../src/store/local/local-store.ts';

export interface WriterReport {
  /** `ok` or the error's code, of each step that was reached. */
  readonly put?: string;
  readonly append?: string;
  readonly finish?: string;
  /** After a failure: finish once more, which must not succeed. */
  readonly finishAgain?: string;
  readonly abort?: string;
  readonly message?: string;
}

async function outcome(act: () => Promise<unknown>): Promise<readonly [string, string | undefined]> {
  try {
    await act();
    return ['ok', undefined];
  } catch (error) {
    if (!isChainkeepError(error)) throw error;
    return [error.code, error.message];
  }
}

async function writeOne(root: string, mode: string, content: string): Promise<WriterReport> {
  const store = await openLocalStore(root, { create: false });
  const bytes = Buffer.from(content);
  const head = bytes.subarray(0, 4);
  let sink: Awaited<ReturnType<typeof store.put>> | undefined;
  const [put, putMessage] = await outcome(async () => {
    sink = await store.put('vms/a/blob', { headLength: 4, ifAbsent: mode === 'create' });
  });
  if (!sink) return { put, message: putMessage };
  const open = sink;
  const half = bytes.length >> 1;
  const [append, appendMessage] = await outcome(async () => {
    await open.append([bytes.subarray(4, half)]);
    await open.append([bytes.subarray(half)]);
  });
  const [finish, finishMessage] = await outcome(() => open.finish(head));
  if (finish === 'ok') return { put, append, finish };
  const [finishAgain] = await outcome(() => open.finish(head));
  const [abort] = await outcome(() => open.abort());
  return { put, append, finish, finishAgain, abort, message: appendMessage ?? finishMessage };
}

const [root = '', mode = '', content = ''] = process.argv.slice(2);
process.stdout.write(JSON.stringify(await writeOne(root, mode, content)));
