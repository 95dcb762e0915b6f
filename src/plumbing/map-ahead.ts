// Does a slow thing for each of many items: several at the same time, the answers in the order of the items.
// It must not run ahead without a limit: what is begun and not yet taken lies in memory.

/** At most `ahead` items are begun before the first of them is taken. The first error ends it. */
export async function* mapAhead<Item, Answer>(
  items: Iterable<Item>,
  ahead: number,
  work: (item: Item) => Promise<Answer>,
): AsyncGenerator<Answer> {
  const begun: Promise<Answer>[] = [];
  for (const item of items) {
    const answer = work(item);
    // Whoever takes it hears of its error; one that is never taken, because an earlier one failed, must not end the process.
    answer.catch(() => undefined);
    begun.push(answer);
    const first = begun.length >= ahead ? begun.shift() : undefined;
    if (first) yield await first;
  }
  for (const answer of begun) yield await answer;
}
