// An HTTP proxy in front of an object store that fails one request in a chosen way, and passes everything else on unchanged.
// It must not change what it passes on: requests are signed. What an error of the store looks like is given by the caller.

import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

export const OBJECT_FAULTS = [
  'answers 500',
  'answers 503',
  'is done and answers 500',
  'is reset while it is sent',
  'is done and its answer is reset',
  'is answered with half a body',
  'is answered with half a body that looks whole',
  'is answered 200 with an error in the body',
  'is done and answered 200 with an error in the body',
  'is delivered twice',
  'is answered late',
] as const;

export type ObjectFault = (typeof OBJECT_FAULTS)[number];

export interface ErrorAnswer {
  readonly status: number;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** How the store says that it failed, and that it is busy. */
export interface ErrorAnswers {
  readonly failed: ErrorAnswer;
  readonly busy: ErrorAnswer;
}

const xml = (code: string): string =>
  `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>injected</Message></Error>`;

export const S3_ERRORS: ErrorAnswers = {
  failed: { status: 500, body: xml('InternalError') },
  busy: { status: 503, body: xml('SlowDown') },
};

/** Azure names the fault in a header too: the answer to a HEAD has no body. */
export const AZURE_ERRORS: ErrorAnswers = {
  failed: { status: 500, body: xml('InternalError'), headers: { 'x-ms-error-code': 'InternalError' } },
  busy: { status: 503, body: xml('ServerBusy'), headers: { 'x-ms-error-code': 'ServerBusy' } },
};

const LATE_MS = 300;

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

interface Span {
  readonly begin: number;
  end: number;
}

export interface Attack {
  readonly fault: ObjectFault;
  /** Which request; the first since the attack began is 1. */
  readonly at: number;
}

export class FaultProxy {
  readonly #server: Server;
  readonly #upstream: URL;
  readonly #errors: ErrorAnswers;
  readonly #sockets = new Set<Socket>();
  #attack: Attack | undefined;
  /** From this request on the store is not to be had. */
  #goneFrom = Number.POSITIVE_INFINITY;
  #requests: string[] = [];
  #spans: Span[] = [];
  #delay = 0;
  /** Requests that wait, and what lets them go, all at once. */
  readonly #held: (() => void)[] = [];
  #quiet: NodeJS.Timeout | undefined;

  private constructor(server: Server, upstream: URL, errors: ErrorAnswers) {
    this.#server = server;
    this.#upstream = upstream;
    this.#errors = errors;
  }

  /** `upstream`: the address of the store. */
  static async open(upstream: string, errors: ErrorAnswers = S3_ERRORS): Promise<FaultProxy> {
    const server = createServer();
    const proxy = new FaultProxy(server, new URL(upstream), errors);
    server.on('connection', (socket) => {
      proxy.#sockets.add(socket);
      socket.on('close', () => proxy.#sockets.delete(socket));
    });
    server.on('request', (incoming, outgoing) => void proxy.#serve(incoming, outgoing));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get endpoint(): string {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the proxy does not listen');
    return `http://127.0.0.1:${address.port}`;
  }

  /** Since the last `begin`, in the order in which they came: `PUT /bucket/key?partNumber=1`. */
  get requests(): readonly string[] {
    return this.#requests;
  }

  /** Every request waits until no other one has come for so many milliseconds: a server far away, also where the one who asks is slow himself. */
  setDelay(delay: number): void {
    this.#delay = delay;
  }

  /** Of the requests since the last `begin`: the most of them that came one after the other, each when the one before was answered. */
  get depth(): number {
    let depth = 0;
    let end = Number.NEGATIVE_INFINITY;
    for (const span of this.#spans.toSorted((a, b) => a.end - b.end)) {
      if (span.begin < end) continue;
      depth += 1;
      end = span.end;
    }
    return depth;
  }

  /** Counts from here; without an attack nothing fails. */
  begin(attack?: Attack): void {
    this.#attack = attack;
    this.#goneFrom = Number.POSITIVE_INFINITY;
    this.#requests = [];
    this.#spans = [];
  }

  /** Counts from here; request number `at` and all that follow are answered as by a store that is busy for ever, until the next `begin`. */
  goAway(at: number): void {
    this.begin();
    this.#goneFrom = at;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #farAway(): Promise<void> | undefined {
    if (this.#delay === 0) return undefined;
    clearTimeout(this.#quiet);
    this.#quiet = setTimeout(() => {
      for (const go of this.#held.splice(0)) go();
    }, this.#delay);
    return new Promise((go) => this.#held.push(go));
  }

  async #serve(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const count = this.#requests.push(`${incoming.method} ${incoming.url}`);
    const fault = this.#attack?.at === count ? this.#attack.fault : undefined;
    const span = { begin: performance.now(), end: Number.POSITIVE_INFINITY };
    this.#spans.push(span);
    outgoing.on('close', () => {
      span.end = performance.now();
    });
    await this.#farAway();
    try {
      if (count >= this.#goneFrom) return await refuse(incoming, outgoing, this.#errors.busy);
      if (fault === undefined) return await this.#pass(incoming, outgoing);
      await this.#fail(fault, incoming, outgoing);
    } catch {
      outgoing.destroy(); // the client gave up, or the store is gone
    }
  }

  async #fail(fault: ObjectFault, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const { failed, busy } = this.#errors;
    switch (fault) {
      case 'answers 500':
        return refuse(incoming, outgoing, failed);
      case 'answers 503':
        return refuse(incoming, outgoing, busy);
      case 'is reset while it is sent':
        incoming.once('data', () => incoming.socket.resetAndDestroy());
        incoming.once('end', () => incoming.socket.resetAndDestroy());
        return;
      case 'is answered late':
        await sleep(LATE_MS);
        return this.#pass(incoming, outgoing);
      case 'is answered 200 with an error in the body':
        return refuse(incoming, outgoing, canHideErrors(incoming) ? { ...failed, status: 200 } : failed);
      default:
        return this.#failAfter(fault, incoming, outgoing);
    }
  }

  /** The store does it first. */
  async #failAfter(fault: ObjectFault, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const { failed } = this.#errors;
    const body = await bodyOf(incoming);
    if (fault === 'is delivered twice') await this.#send(incoming, body);
    const answer = await this.#send(incoming, body);
    const half = answer.body.subarray(0, answer.body.length >> 1);
    const isCut = fault === 'is answered with half a body' || fault === 'is answered with half a body that looks whole';
    if (fault === 'is done and answers 500') return reply(outgoing, { headers: {}, ...failed });
    if (fault === 'is done and answered 200 with an error in the body') {
      return reply(outgoing, { headers: {}, ...failed, status: canHideErrors(incoming) ? 200 : 500 });
    }
    if (fault === 'is delivered twice') return reply(outgoing, answer);
    if (isCut && answer.body.length > 1) {
      if (fault === 'is answered with half a body that looks whole') {
        const { 'transfer-encoding': _, ...headers } = answer.headers;
        return reply(outgoing, { ...answer, headers: { ...headers, 'content-length': String(half.length) }, body: half });
      }
      outgoing.writeHead(answer.status, answer.headers);
      outgoing.write(half, () => incoming.socket.destroy());
      return;
    }
    incoming.socket.resetAndDestroy();
  }

  /** As it comes, without keeping it. */
  async #pass(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const upstream = request(this.#optionsFor(incoming));
    incoming.pipe(upstream);
    outgoing.on('close', () => upstream.destroy());
    const answer = await new Promise<IncomingMessage>((resolve, reject) => upstream.on('response', resolve).on('error', reject));
    outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.pipe(outgoing);
    answer.on('error', () => outgoing.destroy());
  }

  async #send(incoming: IncomingMessage, body: Buffer): Promise<Answer> {
    const upstream = request(this.#optionsFor(incoming));
    upstream.end(body);
    const answer = await new Promise<IncomingMessage>((resolve, reject) => upstream.on('response', resolve).on('error', reject));
    return { status: answer.statusCode ?? 502, headers: answer.headers, body: await bodyOf(answer) };
  }

  /** The host stays the one that was signed. */
  #optionsFor({ method, url, headers }: IncomingMessage) {
    const { hostname, port } = this.#upstream;
    return { hostname, port, method, path: url, headers };
  }
}

/** Only where the store itself may begin an answer before it knows: the completion of an upload. */
function canHideErrors({ method, url = '' }: IncomingMessage): boolean {
  return method === 'POST' && url.includes('uploadId=');
}

async function refuse(incoming: IncomingMessage, outgoing: ServerResponse, answer: ErrorAnswer): Promise<void> {
  await bodyOf(incoming);
  await reply(outgoing, { headers: {}, ...answer });
}

async function reply(
  outgoing: ServerResponse,
  answer: { status: number; headers: IncomingMessage['headers']; body: Buffer | string },
): Promise<void> {
  const xmlType = typeof answer.body === 'string' ? { 'content-type': 'application/xml' } : {};
  outgoing.writeHead(answer.status, { ...xmlType, ...answer.headers });
  outgoing.end(answer.body);
}

async function bodyOf(stream: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}
