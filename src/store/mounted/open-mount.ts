// Opens what is mounted at a mount point, and mounts it first where that is ours to do. Runs in the child process of a repository: it may hang.
// The folder stays open: everything is done through its descriptor, so nothing ever reaches the disk below a mount that went away.

import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, rmdir } from 'node:fs/promises';
import { ChainkeepError, systemCode } from '../../plumbing/errors.ts';
import { makeFolder } from '../../plumbing/make-folder.ts';
import type { Secret } from '../../plumbing/secret.ts';
import { dropNote, isNotedMount, noteMount, withMountLock } from './mount-owner.ts';
import type { MountPlan } from './mount-plan.ts';
import { type MountFault, mountFault } from './mount-table.ts';
import { runMount, runUnmount } from './run-mount.ts';

export interface OpenedMount {
  /** Leads into the mount that was opened, and nowhere else. */
  readonly path: string;
  /** A mount point that the user named was missing and has been made. */
  readonly madeMountPoint: boolean;
  /** REPOSITORY_OFFLINE unless it is still mounted at its place. Asks no server. */
  check(): void;
  /** Gives it back; unmounts what Chainkeep mounted and nobody else uses. */
  close(): Promise<void>;
}

export interface OpenMountOptions {
  readonly plan: MountPlan;
  readonly password: Secret | undefined;
  /** Make the mount point where it is missing. */
  readonly create: boolean;
  /** Milliseconds for all of it. */
  readonly limit: number;
}

/** Milliseconds: a server that is gone does not answer an umount either. */
const UNMOUNT_LIMIT_MS = 5000;

export async function openMount(options: OpenMountOptions): Promise<OpenedMount> {
  const { plan } = options;
  const found = await lookAt(plan);
  if (found.handle) return openedMount(plan, found.handle);
  const { mount, stateFolder } = plan;
  if (!mount || (found.taken && !plan.ownFolder)) throw offline(plan, found.what);
  if (stateFolder === undefined) throw offline(plan, `${found.what}, and without a home nothing is mounted`);
  const { limit } = options;
  return withMountLock(stateFolder, limit, async () => {
    const meanwhile = await lookAt(plan); // another process may have been faster
    if (meanwhile.handle) return openedMount(plan, meanwhile.handle);
    // A mount of ours that went stale, as after the server got another disk: nobody else may take it away, and nobody needs it.
    if (meanwhile.taken && !(plan.ownFolder && (await runUnmount(plan.mountPoint, limit)))) throw offline(plan, meanwhile.what);
    const made = await makeMountPoint(plan, meanwhile, options.create);
    try {
      return { ...(await mountNow(plan, stateFolder, { ...options, mount })), madeMountPoint: made };
    } catch (error) {
      if (made) await rmdir(plan.mountPoint);
      throw error;
    }
  });
}

/** True where the user's own mount point was made; the folder above it must be there: a mistake in the path makes no tree of folders. */
async function makeMountPoint(
  plan: MountPlan,
  { missing, what }: { readonly missing: boolean; readonly what: string },
  create: boolean,
): Promise<boolean> {
  if (plan.ownFolder) makeFolder(plan.mountPoint, 0o700);
  if (plan.ownFolder || !missing) return false;
  if (!create) throw offline(plan, what);
  try {
    await mkdir(plan.mountPoint, { mode: 0o700 });
    return true;
  } catch (error) {
    throw offline(plan, `is not there, and cannot be made (${systemCode(error)})`);
  }
}

async function mountNow(
  plan: MountPlan,
  stateFolder: string,
  { mount, password, limit }: OpenMountOptions & { readonly mount: NonNullable<MountPlan['mount']> },
): Promise<OpenedMount> {
  const { expected, mountPoint } = plan;
  await runMount({ ...mount, source: expected.source, mountPoint, password, limit });
  const mounted = await lookAt(plan);
  if (!mounted.handle) throw notThere(plan, mounted.what);
  if (!plan.ownFolder) await noteMount(stateFolder, mounted.handle.fd);
  return openedMount(plan, mounted.handle);
}

type Look = { readonly handle: FileHandle } | (MountFault & { readonly handle: undefined; readonly missing: boolean });

/** Opens the folder, which also wakes an automounter, and then asks what was opened: between a look and an opening a mount could go. */
async function lookAt(plan: MountPlan): Promise<Look> {
  let handle: FileHandle;
  try {
    handle = await open(plan.mountPoint, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    const missing = systemCode(error) === 'ENOENT';
    return { handle: undefined, missing, taken: !missing, what: missing ? 'is not there' : `cannot be opened (${systemCode(error)})` };
  }
  const fault = mountFault(handle.fd, plan.expected);
  if (!fault) return { handle };
  await handle.close();
  return { handle: undefined, missing: false, ...fault };
}

function openedMount(plan: MountPlan, handle: FileHandle): OpenedMount {
  const ours = plan.ownFolder || (plan.stateFolder !== undefined && isNotedMount(plan.stateFolder, handle.fd));
  return {
    path: `/proc/self/fd/${handle.fd}`,
    madeMountPoint: false,
    check: () => {
      const fault = mountFault(handle.fd, plan.expected);
      if (fault) throw offline(plan, fault.what);
    },
    close: async () => {
      await handle.close();
      if (ours && plan.stateFolder !== undefined) await giveBack(plan, plan.stateFolder);
    },
  };
}

/** Under the lock: nobody mounts or opens at this moment what is being unmounted. Who opened it without the lock holds it, and umount refuses. */
async function giveBack(plan: MountPlan, stateFolder: string): Promise<void> {
  await withMountLock(stateFolder, UNMOUNT_LIMIT_MS, async () => {
    if (!(await runUnmount(plan.mountPoint, UNMOUNT_LIMIT_MS))) return;
    await dropNote(stateFolder);
    if (plan.ownFolder) await rmdir(plan.mountPoint);
  });
}

function offline(plan: MountPlan, what: string): ChainkeepError {
  return new ChainkeepError('REPOSITORY_OFFLINE', `the mount point ${plan.mountPoint} ${what}`, {
    advice: `nothing is read or written there before ${plan.expected.source} is mounted at exactly this place`,
    retryable: true,
    context: { mount_point: plan.mountPoint, source: plan.expected.source },
  });
}

function notThere(plan: MountPlan, what: string): ChainkeepError {
  return new ChainkeepError('MOUNT_FAILED', `mount said that it is done, but the mount point ${plan.mountPoint} ${what}`, {
    advice: 'check mount_options: nothing may put the mount off or mount another thing',
    context: { mount_point: plan.mountPoint, source: plan.expected.source },
  });
}
