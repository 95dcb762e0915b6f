// A proxy in front of an HTTP server that does to chosen requests what networks and servers do: loses answers, cuts them, delivers twice, fails.

import { once } from 'node:events';
import { createServer, request as httpRequest, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';

export type Loss =
  /** Passed on and done; the answer never arrives. */
  | 'answer lost'
  /** The connection ends before the server has seen anything. */
  | 'request lost'
  /** The answer ends in the middle of its body. */
  | 'answer cut'
  /** One bit of the body of the answer is another. */
  | 'answer changed'
  /** One bit of the body of the request is another. */
  | 'request changed'
  /** The server gets it twice, and the second answer is given. */
  | 'twice'
  | 'busy'
  | 'failed';

export interface LossyProxy {
  readonly endpoint: string;
  /** `METHOD /path?query` of every request. */
  readonly requests: string[];
  /** Asked once for every request; undefined passes it on. */
  lose: (request: string) => Loss | undefined;
  stop(): Promise<void>;
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

export async function startLossyProxy(target: string): Promise<LossyProxy> {
  const server = createServer((request, response) => {
    handle(request, response).catch(() => request.socket.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const proxy: LossyProxy = {
    endpoint: `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`,
    requests: [],
    lose: () => undefined,
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const name = `${request.method} ${request.url}`;
    proxy.requests.push(name);
    const loss = proxy.lose(name);
    const body = await collect(request);
    if (loss === 'request lost') return void request.socket.destroy();
    if (loss === 'busy' || loss === 'failed') return void response.writeHead(loss === 'busy' ? 503 : 500).end();
    if (loss === 'twice') await send(request, body);
    const answer = await send(request, loss === 'request changed' ? changed(body) : body);
    if (loss === 'answer lost') return void request.socket.destroy();
    response.writeHead(answer.status, answer.headers);
    if (loss === 'answer cut') {
      response.write(answer.body.subarray(0, answer.body.length >> 1), () => request.socket.destroy());
      return;
    }
    response.end(request.method === 'HEAD' ? undefined : loss === 'answer changed' ? changed(answer.body) : answer.body);
  }

  async function send({ method, url, headers }: IncomingMessage, body: Buffer): Promise<Answer> {
    const request = httpRequest(`${target}${url}`, { method, headers });
    request.end(body);
    const response = await new Promise<IncomingMessage>((resolve, reject) => request.on('response', resolve).on('error', reject));
    const { connection: _, 'transfer-encoding': __, ...passed } = response.headers;
    return { status: response.statusCode ?? 500, headers: passed, body: await collect(response) };
  }
  return proxy;
}

async function collect(stream: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of stream) if (Buffer.isBuffer(piece)) pieces.push(piece);
  return Buffer.concat(pieces);
}

function changed(body: Buffer): Buffer {
  const copy = Buffer.from(body);
  const middle = copy.length >> 1;
  if (copy.length > 0) copy[middle] = (copy[middle] ?? 0) ^ 1;
  return copy;
}
