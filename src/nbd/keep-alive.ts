// How a machine is noticed that is gone without a word: a client may be idle for long, and a flush may take long.

/** Options of a TCP socket: after a minute of silence the system asks. */
export const KEEP_ALIVE = { keepAlive: true, keepAliveInitialDelay: 60_000 } as const;
