// How many clients there may be, in all and from one address, and who has to go when there are too many.
// Somebody who only holds a socket open takes the place of nobody who wants to work.

export interface ClientLimits {
  /** In all. */
  readonly clients: number;
  /** From one address; all on unix sockets are one. */
  readonly perAddress: number;
}

export interface CountedClient {
  readonly address: string;
  /** Has it chosen an export? */
  readonly settled: boolean;
  /** Cuts it off. */
  drop(): void;
}

export class ClientCount {
  readonly #limits: ClientLimits;
  readonly #clients = new Set<CountedClient>();

  constructor(limits: ClientLimits) {
    this.#limits = limits;
  }

  /** False where there is no room. The oldest that is still negotiating makes room: an honest one needs milliseconds for it. */
  admit(client: CountedClient): boolean {
    const all = [...this.#clients];
    const neighbours = all.filter(({ address }) => address === client.address);
    if (neighbours.length >= this.#limits.perAddress && !this.#makeRoom(neighbours)) return false;
    if (this.#clients.size >= this.#limits.clients && !this.#makeRoom(all)) return false;
    this.#clients.add(client);
    return true;
  }

  gone(client: CountedClient): void {
    this.#clients.delete(client);
  }

  /** Clients are kept in the order they came. */
  #makeRoom(clients: readonly CountedClient[]): boolean {
    const idle = clients.find(({ settled }) => !settled);
    if (!idle) return false;
    this.#clients.delete(idle);
    idle.drop();
    return true;
  }
}
