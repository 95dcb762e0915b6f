// Counts work that was given up and may never end: a system call on a storage that does not answer keeps its thread, and with it the process, alive.
// Who ends the process asks here whether it can still end by itself.

let abandoned = 0;

/** Call the answer once the work has ended after all. */
export function noteAbandoned(): () => void {
  let ended = false;
  abandoned += 1;
  return () => {
    if (!ended) abandoned -= 1;
    ended = true;
  };
}

export function hasAbandonedWork(): boolean {
  return abandoned > 0;
}
