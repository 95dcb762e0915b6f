// Does something for each of many items, several at the same time, and answers all results in the order of the items.
// It must not leave anything running or open behind a failure.

/** Items that are worked on at the same time: a store far away takes its time for each. */
const AT_ONCE = 16;

/** The first failure is thrown when all work has ended; `undo` is then called with every result there is. */
export async function gather<Item, Answer>(
  items: readonly Item[],
  work: (item: Item) => Promise<Answer>,
  undo: (answer: Answer) => Promise<void> = async () => undefined,
): Promise<Answer[]> {
  const answers = new Map<number, Answer>();
  const failures: unknown[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let index = next++; failures.length === 0; index = next++) {
      const item = items[index];
      if (item === undefined || index >= items.length) return;
      try {
        answers.set(index, await work(item));
      } catch (error) {
        failures.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, items.length) }, worker));
  if (failures.length > 0) {
    await Promise.allSettled([...answers.values()].map(undo));
    throw failures[0];
  }
  return [...answers].sort(([a], [b]) => a - b).map(([, answer]) => answer);
}
