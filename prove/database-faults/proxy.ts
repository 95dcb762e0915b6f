// Stands between the program and its database server and counts statements; at one of them it does what networks, disks and administrators do.
// It must not change what it lets through.

import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

/**
 * `cut`: the connection ends before the statement arrives. `answer lost`: it is carried out, and nobody hears of it. `killed`, `killed after`: the
 * server dies before or after it. `gone`: nothing is reachable any more. `slow`: it takes seconds. The others are answers of the server that did
 * not carry it out.
 */
export type DatabaseFault =
  | 'cut'
  | 'answer lost'
  | 'killed'
  | 'killed after'
  | 'gone'
  | 'full'
  | 'full for good'
  | 'locked'
  | 'deadlock'
  | 'slow';
export const DATABASE_FAULTS: readonly DatabaseFault[] = [
  'cut',
  'answer lost',
  'killed',
  'killed after',
  'gone',
  'full',
  'full for good',
  'locked',
  'deadlock',
  'slow',
];

export interface Attack {
  readonly fault: DatabaseFault;
  /** The number of the statement, from 1. */
  readonly at: number;
}

/** Numbers and states of the server's own errors. */
const ANSWERS: Readonly<Partial<Record<DatabaseFault, readonly [number, string, string]>>> = {
  full: [1114, 'HY000', 'The table is full'],
  'full for good': [1114, 'HY000', 'The table is full'],
  locked: [1205, 'HY000', 'Lock wait timeout exceeded; try restarting transaction'],
  deadlock: [1213, '40001', 'Deadlock found when trying to get lock; try restarting transaction'],
};

const SLOW_MS = 2500;
const HEADER = 4;
const COM_QUERY = 3;
const ERROR_PACKET = 0xff;

/** Closed by who opened it. */
export class DatabaseProxy {
  readonly #server: Server;
  readonly #upstream: number;
  readonly #attack: Attack | undefined;
  readonly #kill: () => Promise<void>;
  readonly #sockets = new Set<Socket>();
  #statements = 0;
  #gone = false;
  #killing: Promise<void> = Promise.resolve();

  private constructor(server: Server, upstream: number, attack: Attack | undefined, kill: () => Promise<void>) {
    this.#server = server;
    this.#upstream = upstream;
    this.#attack = attack;
    this.#kill = kill;
    server.on('connection', (client) => this.#serve(client));
  }

  /** `kill`: how the server is made to die. */
  static async open(upstream: number, attack: Attack | undefined, kill: () => Promise<void>): Promise<DatabaseProxy> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new DatabaseProxy(server, upstream, attack, kill);
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the proxy does not listen');
    return address.port;
  }

  /** Statements that have come so far. */
  get statements(): number {
    return this.#statements;
  }

  /** A server that was to die is dead then, also where the program had ended before it died. */
  async close(): Promise<void> {
    await this.#killing;
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #serve(client: Socket): void {
    if (this.#gone) {
      client.destroy();
      return;
    }
    const server = connect(this.#upstream, '127.0.0.1');
    const line: Line = { client, server, loseAnswer: undefined };
    for (const socket of [client, server]) {
      this.#sockets.add(socket);
      // Ends that come by themselves are the program's to notice; here they only end the other half.
      socket.on('error', () => undefined);
      socket.on('close', () => {
        this.#sockets.delete(socket);
        client.destroy();
        server.destroy();
      });
    }
    let held = Buffer.alloc(0);
    client.on('data', (bytes) => {
      held = Buffer.concat([held, bytes]);
      for (let length = packetLength(held); length !== undefined; length = packetLength(held)) {
        this.#packet(line, held.subarray(0, length));
        held = held.subarray(length);
      }
    });
    server.on('data', (bytes) => {
      if (line.loseAnswer) line.loseAnswer();
      else client.write(bytes);
    });
  }

  #packet(line: Line, packet: Buffer): void {
    const isStatement = packet[3] === 0 && packet[HEADER] === COM_QUERY;
    if (isStatement) this.#statements += 1;
    const { fault, at } = this.#attack ?? {};
    const due = isStatement && at !== undefined && (this.#statements === at || (fault === 'full for good' && this.#statements > at));
    if (!due || fault === undefined) line.server.write(packet);
    else this.#strike(line, packet, fault);
  }

  #strike(line: Line, packet: Buffer, fault: DatabaseFault): void {
    const answer = ANSWERS[fault];
    if (answer) {
      line.client.write(errorPacket(...answer));
      return;
    }
    if (fault === 'slow') {
      setTimeout(() => line.server.write(packet), SLOW_MS);
      return;
    }
    if (fault === 'gone') this.#gone = true;
    if (fault === 'gone' || fault === 'cut') this.#end(fault === 'gone' ? this.#sockets : [line.client]);
    else if (fault === 'killed') this.#killServer();
    else {
      line.loseAnswer = () => {
        line.loseAnswer = () => undefined;
        if (fault === 'answer lost') this.#end([line.client]);
        else this.#killServer();
      };
      line.server.write(packet);
    }
  }

  #killServer(): void {
    this.#killing = this.#kill().then(() => this.#end(this.#sockets));
  }

  #end(sockets: Iterable<Socket>): void {
    for (const socket of [...sockets]) socket.destroy();
  }
}

interface Line {
  readonly client: Socket;
  readonly server: Socket;
  /** Called instead of passing the answer on. */
  loseAnswer: (() => void) | undefined;
}

function packetLength(held: Buffer): number | undefined {
  if (held.length < HEADER) return undefined;
  const length = HEADER + held.readUIntLE(0, 3);
  return held.length < length ? undefined : length;
}

function errorPacket(number: number, state: string, message: string): Buffer {
  const payload = Buffer.concat([Buffer.from([ERROR_PACKET, number & 0xff, number >> 8]), Buffer.from(`#${state}${message}`)]);
  const header = Buffer.alloc(HEADER);
  header.writeUIntLE(payload.length, 0, 3);
  header.writeUInt8(1, 3);
  return Buffer.concat([header, payload]);
}
