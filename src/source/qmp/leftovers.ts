// What a run that was killed has left in a QEMU: exports, jobs, nodes and copies of bitmaps, known by their names. Nothing else is touched.

import { setTimeout as sleep } from 'node:timers/promises';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { isRunning, tagOf } from '../run-tag.ts';
import { asList, textOf } from './answer-fields.ts';
import type { QmpConnection } from './qmp-connection.ts';

const GONE_WITHIN_MS = 30_000;
const LOOK_EVERY_MS = 20;

/** Ends what dead runs have begun; answers their tags. Throws BACKUP_IN_PROGRESS where a run lives. */
export async function removeLeftovers(qmp: QmpConnection): Promise<ReadonlySet<string>> {
  const found = new Set<string>();
  for (const names of [await exportNames(qmp), await jobNames(qmp), await nodeNames(qmp)]) {
    for (const name of names) {
      const tag = tagOf(name);
      if (tag !== undefined) found.add(tag);
    }
  }
  for (const tag of found) if (isRunning(tag)) throw inProgress(qmp.socket, tag);
  if (found.size > 0) {
    const isOurs = (name: string): boolean => found.has(tagOf(name) ?? '');
    // The one server that a QEMU has was started by them, where nobody else exports anything.
    const isServerOurs = (await exportNames(qmp)).every(isOurs);
    await removeOf(qmp, { isOurs, isServerOurs });
  }
  return found;
}

export interface Ours {
  /** Is a job, an export, a node or a copy of a bitmap theirs? */
  readonly isOurs: (name: string) => boolean;
  readonly isServerOurs: boolean;
}

/** Everything of some runs, in the order in which one thing lets go of the other. What is not there is no error. */
export async function removeOf(qmp: QmpConnection, { isOurs, isServerOurs }: Ours): Promise<void> {
  for (const id of (await exportNames(qmp)).filter(isOurs)) await qmp.execute('block-export-del', { id, mode: 'hard' });
  await untilNone(async () => (await exportNames(qmp)).some(isOurs), 'exports');
  if (isServerOurs) await stopServer(qmp);
  for (const id of (await jobNames(qmp)).filter(isOurs)) await cancelJob(qmp, id);
  await untilNone(async () => (await jobNames(qmp)).some(isOurs), 'jobs');
  for (const node of (await nodeNames(qmp)).filter(isOurs)) await qmp.execute('blockdev-del', { 'node-name': node });
  for (const { node, bitmap } of await listBitmaps(qmp)) {
    if (isCopy(bitmap) && isOurs(bitmap)) await qmp.execute('block-dirty-bitmap-remove', { node, name: bitmap });
  }
}

function isCopy(bitmap: string): boolean {
  return bitmap.startsWith('chainkeep-copy-');
}

async function stopServer(qmp: QmpConnection): Promise<void> {
  try {
    await qmp.execute('nbd-server-stop');
  } catch (error) {
    // Nothing tells whether it runs: a run can die before it has started it.
    if (!(error instanceof ChainkeepError) || error.context.desc !== 'NBD server not running') throw error;
  }
}

async function cancelJob(qmp: QmpConnection, id: string): Promise<void> {
  try {
    await qmp.execute('block-job-cancel', { device: id, force: true });
  } catch (error) {
    // One that failed by itself goes between the question and the command.
    if (!(error instanceof ChainkeepError) || error.context.class !== 'DeviceNotActive') throw error;
  }
}

async function untilNone(some: () => Promise<boolean>, what: string): Promise<void> {
  for (let waited = 0; await some(); waited += LOOK_EVERY_MS) {
    if (waited > GONE_WITHIN_MS) {
      throw new ChainkeepError('HYPERVISOR_FAILED', `QEMU does not end the ${what} of a backup`, {
        advice: 'the next backup of this machine tries it again',
        context: { waited_ms: waited },
      });
    }
    await sleep(LOOK_EVERY_MS);
  }
}

export async function jobNames(qmp: QmpConnection): Promise<readonly string[]> {
  return asList(await qmp.execute('query-jobs'), 'query-jobs').map((job) => textOf(job, 'id', 'query-jobs'));
}

async function exportNames(qmp: QmpConnection): Promise<readonly string[]> {
  const what = 'query-block-exports';
  return asList(await qmp.execute(what), what).map((one) => textOf(one, 'id', what));
}

async function nodeNames(qmp: QmpConnection): Promise<readonly string[]> {
  return (await listNodes(qmp)).map((node) => textOf(node, 'node-name', 'query-named-block-nodes'));
}

async function listNodes(qmp: QmpConnection) {
  return asList(await qmp.execute('query-named-block-nodes', { flat: true }), 'query-named-block-nodes');
}

async function listBitmaps(qmp: QmpConnection): Promise<readonly { readonly node: string; readonly bitmap: string }[]> {
  return (await listNodes(qmp)).flatMap((node) => {
    const name = textOf(node, 'node-name', 'query-named-block-nodes');
    const bitmaps = asList(node['dirty-bitmaps'] ?? [], 'query-named-block-nodes');
    return bitmaps.flatMap((bitmap) => (typeof bitmap.name === 'string' ? [{ node: name, bitmap: bitmap.name }] : []));
  });
}

function inProgress(socket: string, tag: string): ChainkeepError {
  const pid = Number.parseInt(tag, 36);
  return new ChainkeepError('BACKUP_IN_PROGRESS', `process ${pid} is backing up the virtual machine at ${socket}`, {
    advice: 'wait until it has ended',
    context: { socket, pid },
  });
}
