// The server: listens, negotiates with each client within a time limit, and serves the exports it has at the moment.
// It closes no disk: whoever added an export closes its disk after the export was removed.

import { createServer, type Server, type Socket } from 'node:net';
import { ChainkeepError, isChainkeepError } from '../../plumbing/errors.ts';
import { KEEP_ALIVE } from '../keep-alive.ts';
import { blockSizeFault } from '../protocol/export-info.ts';
import { isText } from '../protocol/text.ts';
import { BufferPool } from './buffer-pool.ts';
import { ClientCount, type ClientLimits, type CountedClient } from './client-count.ts';
import { type Agreement, ClientNegotiation } from './client-negotiation.ts';
import { beginListening, describeListen, isLocal, type ListenAddress } from './listen-address.ts';
import { blockSizeOf, type NbdExport } from './nbd-export.ts';
import { checkServerTls, type ServerTls } from './server-tls.ts';
import { Transmission } from './transmission.ts';

export interface NbdServerOptions {
  readonly listen: ListenAddress;
  readonly exports?: readonly NbdExport[];
  /** Clients must use it then. */
  readonly tls?: ServerTls;
  /** Let everybody read along and join in who can reach the network; without it, TLS is demanded where others can get. */
  readonly plaintext?: boolean;
  /** May clients ask which exports there are? */
  readonly listing?: boolean;
  readonly limits?: Partial<NbdServerLimits>;
  /** Hears of disks that fail and of clients that break the protocol. */
  readonly onProblem?: (error: unknown) => void;
}

export interface NbdServerLimits extends ClientLimits {
  /** Milliseconds for the negotiation, TLS included. */
  readonly negotiateWithin: number;
  /** Milliseconds a client has to take what waits for it up to the end of one message, or of 1 MiB of a long one; then it is cut off. */
  readonly slowLimit: number;
}

export const DEFAULT_SERVER_LIMITS: NbdServerLimits = { clients: 100, perAddress: 100, negotiateWithin: 10_000, slowLimit: 60_000 };

/** Idle buffers that are kept for the next requests. */
const POOL_BYTES = 32 * 1024 ** 2;
const CLOSE_WITHIN = 5000;

export interface NbdServer {
  /** With the port that was found. */
  readonly address: ListenAddress;
  /** Throws CONFIG_INVALID for a name that is taken or none, and for a size of blocks that cannot be. */
  addExport(served: NbdExport): void;
  /**
   * Nothing is at work on its disk when it resolves, also nothing of a client that has left: the disk may be closed then. Requests that came before are
   * answered, for `within` milliseconds at most; clients are cut off then. A disk that hangs in one of them holds it up as long as it hangs.
   */
  removeExport(name: string, within?: number): Promise<void>;
  /** Ends all of it in the same way. */
  close(within?: number): Promise<void>;
}

/** Throws CONFIG_INVALID. */
export async function openNbdServer(options: NbdServerOptions): Promise<NbdServer> {
  const { listen, tls, plaintext = false } = options;
  if (!tls && !plaintext && !isLocal(listen)) {
    throw new ChainkeepError('CONFIG_INVALID', `others could read what is served at ${describeListen(listen)} without TLS`, {
      advice: 'set up TLS, listen at 127.0.0.1 or a unix socket, or say that plaintext is wanted',
    });
  }
  if (tls) checkServerTls(tls);
  const server = createServer({ noDelay: true, allowHalfOpen: true, ...KEEP_ALIVE });
  const listening = new ListeningServer(server, options);
  listening.address = await beginListening(server, listen);
  return listening;
}

interface Client extends CountedClient {
  /** It is away, and what it asked for has ended. */
  readonly gone: Promise<void>;
  exportName?: string;
  transmission?: Transmission;
}

class ListeningServer implements NbdServer {
  address: ListenAddress;
  readonly #server: Server;
  readonly #options: NbdServerOptions;
  readonly #limits: NbdServerLimits;
  readonly #exports = new Map<string, NbdExport>();
  readonly #clients = new Set<Client>();
  readonly #count: ClientCount;
  readonly #pool = new BufferPool(POOL_BYTES);
  #stopping = false;

  constructor(server: Server, options: NbdServerOptions) {
    this.#server = server;
    this.#options = options;
    this.#limits = { ...DEFAULT_SERVER_LIMITS, ...options.limits };
    this.#count = new ClientCount(this.#limits);
    this.address = options.listen;
    for (const served of options.exports ?? []) this.addExport(served);
    server.on('connection', (socket) => this.#welcome(socket));
    server.on('error', (error) => this.#problem(error));
  }

  addExport(served: NbdExport): void {
    const fault = blockSizeFault(blockSizeOf(served));
    if (fault !== undefined) throw new ChainkeepError('CONFIG_INVALID', `the export tells sizes of blocks that cannot be: ${fault}`);
    if (!isText(served.name) || (served.description !== undefined && !isText(served.description)))
      throw new ChainkeepError('CONFIG_INVALID', 'the name or description of an export holds a NUL or is longer than 4096 bytes');
    if (this.#exports.has(served.name)) throw new ChainkeepError('CONFIG_INVALID', 'the server has an export of this name already');
    this.#exports.set(served.name, served);
  }

  async removeExport(name: string, within = CLOSE_WITHIN): Promise<void> {
    this.#exports.delete(name);
    await endAll(
      [...this.#clients].filter((client) => client.exportName === name),
      within,
    );
  }

  async close(within = CLOSE_WITHIN): Promise<void> {
    this.#stopping = true;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    await endAll([...this.#clients], within);
    await closed;
  }

  #welcome(socket: Socket): void {
    let settled = false;
    const client: Client = {
      address: socket.remoteAddress ?? '',
      get settled() {
        return settled;
      },
      drop: () => socket.destroy(),
      gone: new Promise<void>((resolve) => socket.once('close', () => resolve())).then(() => client.transmission?.idle),
    };
    // Errors of a socket end it, and that is all there is to do about them.
    socket.on('error', () => undefined);
    if (this.#stopping || !this.#count.admit(client)) {
      socket.destroy();
      return;
    }
    this.#clients.add(client);
    socket.once('close', () => this.#count.gone(client));
    void client.gone.then(() => this.#clients.delete(client));
    this.#negotiate(socket, client)
      .then((agreement) => {
        settled = agreement !== undefined;
        if (agreement) this.#serve(agreement, client);
      })
      .catch((error: unknown) => {
        socket.destroy();
        if (!isChainkeepError(error, 'CONNECTION_FAILED')) this.#problem(error);
      });
  }

  async #negotiate(socket: Socket, client: Client): Promise<Agreement | undefined> {
    const timer = setTimeout(() => client.drop(), this.#limits.negotiateWithin);
    const { tls, listing = false } = this.#options;
    try {
      return await new ClientNegotiation(socket, {
        find: (name) => this.#exports.get(name),
        list: () => (listing ? [...this.#exports.values()] : undefined),
        ...(tls && { tls }),
        stopping: () => this.#stopping,
      }).run();
    } finally {
      clearTimeout(timer);
    }
  }

  #serve(agreement: Agreement, client: Client): void {
    const { name } = agreement.served;
    // It may have been removed while the last words were exchanged.
    if (this.#exports.get(name) !== agreement.served || this.#stopping) {
      client.drop();
      return;
    }
    client.exportName = name;
    const left = agreement.served.onClient?.();
    const transmission = new Transmission({
      agreement,
      pool: this.#pool,
      slowLimit: this.#limits.slowLimit,
      onProblem: (error) => {
        if (!isChainkeepError(error, 'CONNECTION_FAILED')) this.#problem(error);
      },
    });
    client.transmission = transmission;
    if (left) void client.gone.then(() => left(transmission.saidGoodbye));
  }

  #problem(error: unknown): void {
    this.#options.onProblem?.(error);
  }
}

async function endAll(clients: readonly Client[], within: number): Promise<void> {
  for (const client of clients) {
    if (client.transmission) client.transmission.stop();
    else client.drop();
  }
  const timer = setTimeout(() => {
    for (const client of clients) client.drop();
  }, within);
  await Promise.all(clients.map(({ gone }) => gone));
  clearTimeout(timer);
}
