// Work that is given up after a time limit and may never end: a system call on a storage that does not answer keeps its thread, and with it the
// process, alive. Who ends the process asks here whether it can still end by itself.

let abandoned = 0;

/** What `within` answers instead of a result. */
export const LATE = Symbol('late');

/** The result, or LATE after `limit` milliseconds; the work goes on then. */
export async function within<T>(work: Promise<T>, limit: number): Promise<T | typeof LATE> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<typeof LATE>((resolve) => {
    timer = setTimeout(() => resolve(LATE), limit);
  });
  try {
    const answer = await Promise.race([work, late]);
    if (answer === LATE) note(work);
    return answer;
  } finally {
    clearTimeout(timer);
  }
}

function note(work: Promise<unknown>): void {
  const ended = (): void => {
    abandoned -= 1;
  };
  abandoned += 1;
  work.then(ended, ended);
}

export function hasAbandonedWork(): boolean {
  return abandoned > 0;
}
