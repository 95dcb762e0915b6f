// Several things at a time of which none may be at work any more when their caller hears how they ended: reads into one buffer, say.

/** Waits for all of them, then throws the first failure in their order. */
export async function settle(works: readonly Promise<unknown>[]): Promise<void> {
  const results = await Promise.allSettled(works);
  const failed = results.find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
}
