// So many at once and no more; the others wait in the order in which they came. The number may change at any time.
// It must not know what is done in a turn.

export interface Turns {
  /** How many at once; undefined: any number. */
  readonly most: number | undefined;
  setMost(most: number | undefined): void;
  run<T>(act: () => Promise<T>): Promise<T>;
}

export function openTurns(first?: number): Turns {
  const waiting: (() => void)[] = [];
  let most = first;
  let running = 0;
  const hasRoom = (): boolean => most === undefined || running < most;
  const advance = (): void => {
    for (let next = waiting[0]; next !== undefined && hasRoom(); next = waiting[0]) {
      waiting.shift();
      running += 1;
      next();
    }
  };
  return {
    get most() {
      return most;
    },
    setMost: (count) => {
      most = count;
      advance();
    },
    run: async (act) => {
      if (waiting.length === 0 && hasRoom()) running += 1;
      else await new Promise<void>((resolve) => waiting.push(resolve));
      try {
        return await act();
      } finally {
        running -= 1;
        advance();
      }
    },
  };
}
