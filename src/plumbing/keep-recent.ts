// Answers that are slow to get and asked for again soon: a few of them are kept.

/** The kept answer, or a new one; of more than `most` the one that was asked for first goes. A failure is no answer for the next one who asks. */
export function keepRecent<Key, Answer>(
  kept: Map<Key, Promise<Answer>>,
  most: number,
  key: Key,
  load: () => Promise<Answer>,
): Promise<Answer> {
  const found = kept.get(key);
  if (found) return found;
  const loading = load();
  loading.catch(() => kept.get(key) === loading && kept.delete(key));
  kept.set(key, loading);
  const [oldest] = kept.keys();
  if (kept.size > most && oldest !== undefined) kept.delete(oldest);
  return loading;
}
