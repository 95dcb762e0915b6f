// A stub of an S3 server in memory, for what no real server here does: one that knows no conditions, one that takes a condition and overwrites all the same,
// one that refuses a checksum, one that answers with a certain error. It checks no signature and knows single objects only, no uploads in parts.

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { crc32 } from 'node:zlib';

export interface PoorOptions {
  /** What it makes of `If-None-Match: *`; default: it decides it. */
  readonly conditions?: 'decides' | 'ignores' | 'refuses';
  /** Spoils what arrives, as a bad network would: the checksum no longer fits, which is answered as AWS answers it. That many times. */
  readonly spoilt?: number;
  /** The answer to everything. */
  readonly error?: { readonly status: number; readonly code: string; readonly message?: string };
}

export class PoorS3 {
  readonly objects = new Map<string, { readonly body: Buffer; readonly writer: string | undefined }>();
  readonly requests: string[] = [];
  readonly #server: Server;
  #options: PoorOptions;
  #spoilt: number;

  private constructor(server: Server, options: PoorOptions) {
    this.#server = server;
    this.#options = options;
    this.#spoilt = options.spoilt ?? 0;
  }

  static async open(options: PoorOptions = {}): Promise<PoorS3> {
    const server = createServer();
    const poor = new PoorS3(server, options);
    server.on('request', (request, response) => void poor.#answer(request, response));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return poor;
  }

  get endpoint(): string {
    const address = this.#server.address();
    return typeof address === 'object' && address ? `http://127.0.0.1:${address.port}` : '';
  }

  fail(error: PoorOptions['error']): void {
    this.#options = { ...this.#options, ...(error && { error }) };
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<ServerResponse> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    const url = new URL(request.url ?? '', 'http://poor');
    const key = decodeURIComponent(url.pathname).split('/').slice(2).join('/');
    this.requests.push(`${request.method} ${key || url.search}`);
    const { error } = this.#options;
    if (error) return refuse(response, error.status, error.code, error.message);
    if (request.method === 'PUT') return this.#put(request, response, key, body);
    if (request.method === 'DELETE') {
      this.objects.delete(key);
      return response.writeHead(204).end();
    }
    if (key === '') return this.#list(response, url.searchParams.get('prefix') ?? '');
    return this.#get(request, response, key);
  }

  #put(request: IncomingMessage, response: ServerResponse, key: string, body: Buffer): ServerResponse {
    const { conditions = 'decides' } = this.#options;
    if (request.headers['if-none-match'] !== undefined) {
      if (conditions === 'refuses') return refuse(response, 501, 'NotImplemented');
      if (conditions === 'decides' && this.objects.has(key)) return refuse(response, 412, 'PreconditionFailed');
    }
    const checksum = request.headers['x-amz-checksum-crc32'];
    const arrived = this.#spoilt-- > 0 ? Buffer.concat([body, Buffer.from('?')]) : body;
    const sum = Buffer.alloc(4);
    sum.writeUInt32BE(crc32(arrived));
    if (checksum !== undefined && checksum !== sum.toString('base64'))
      return refuse(response, 400, 'BadDigest', 'the CRC32 does not match');
    const writer = request.headers['x-amz-meta-chainkeep-writer'];
    this.objects.set(key, { body: arrived, writer: typeof writer === 'string' ? writer : undefined });
    return response.writeHead(200, { etag: etagOf(arrived) }).end();
  }

  #get(request: IncomingMessage, response: ServerResponse, key: string): ServerResponse {
    const object = this.objects.get(key);
    if (!object) return refuse(response, 404, 'NoSuchKey', undefined, request.method === 'HEAD');
    const headers = {
      etag: etagOf(object.body),
      'last-modified': new Date().toUTCString(),
      ...(object.writer !== undefined && { 'x-amz-meta-chainkeep-writer': object.writer }),
    };
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
    if (request.method === 'HEAD') return response.writeHead(200, { ...headers, 'content-length': object.body.length }).end();
    const from = Number(range?.[1] ?? 0);
    const part = object.body.subarray(from, Number(range?.[2] ?? object.body.length) + 1);
    if (part.length === 0) return refuse(response, 416, 'InvalidRange');
    const where = `bytes ${from}-${from + part.length - 1}/${object.body.length}`;
    return response.writeHead(206, { ...headers, 'content-length': part.length, 'content-range': where }).end(part);
  }

  #list(response: ServerResponse, prefix: string): ServerResponse {
    const found = [...this.objects].filter(([key]) => key.startsWith(prefix)).sort(([a], [b]) => (a < b ? -1 : 1));
    const contents = found.map(
      ([key, { body }]) =>
        `<Contents><Key>${key}</Key><Size>${body.length}</Size><LastModified>${new Date().toISOString()}</LastModified></Contents>`,
    );
    const xml = `<ListBucketResult><IsTruncated>false</IsTruncated>${contents.join('')}</ListBucketResult>`;
    return response.writeHead(200, { 'content-type': 'application/xml' }).end(xml);
  }
}

function etagOf(body: Buffer): string {
  return `"${createHash('md5').update(body).digest('hex')}"`;
}

function refuse(response: ServerResponse, status: number, code: string, message = code, empty = false): ServerResponse {
  const body = `<?xml version="1.0"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`;
  return response.writeHead(status, { 'content-type': 'application/xml' }).end(empty ? undefined : body);
}
