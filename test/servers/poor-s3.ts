// A stub of an S3 server in memory, for what no real server here does: one that knows no conditions, one that takes a condition and overwrites all the same,
// one that refuses a checksum, one that locks nothing, one that answers with a certain error. It checks no signature and keeps one version of an object.

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { crc32 } from 'node:zlib';

export interface PoorOptions {
  /** What it makes of `If-None-Match: *`; default: it decides it. */
  readonly conditions?: 'decides' | 'ignores' | 'refuses';
  /** Spoils what arrives, as a bad network would: the checksum no longer fits, which is answered as AWS answers it. That many times. */
  readonly spoilt?: number;
  /** What it makes of a date for an object. The bucket has no Object Lock, and nobody may ask for that. */
  readonly locks?: 'refuses' | 'pretends';
  /** Its listings say that they go on, and not where. */
  readonly cutListings?: boolean;
  /** The answer to everything. */
  readonly error?: { readonly status: number; readonly code: string; readonly message?: string };
}

interface Upload {
  /** What its parts must be sent with, as AWS's documents have it: named when the upload begins, or none. */
  readonly algorithm: string | undefined;
  readonly writer: string | undefined;
  readonly parts: Map<string, Buffer>;
}

export class PoorS3 {
  readonly objects = new Map<string, { readonly body: Buffer; readonly writer: string | undefined }>();
  readonly #uploads = new Map<string, Upload>();
  readonly requests: string[] = [];
  /** What uploads in parts were announced with. */
  readonly checksums = new Set<string>();
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
    if (url.searchParams.has('object-lock')) return refuse(response, 403, 'AccessDenied');
    if (url.searchParams.has('retention')) return this.#lock(response);
    if (url.searchParams.has('uploads') || url.searchParams.has('uploadId')) return this.#upload(request, response, { key, body, url });
    if (request.method === 'PUT') return this.#put(request, response, key, body);
    if (request.method === 'DELETE') {
      this.objects.delete(key);
      return response.writeHead(204).end();
    }
    if (key === '') return this.#list(response, url);
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
    if (checksum !== undefined && checksum !== checksumOf(arrived)) return refuse(response, 400, 'BadDigest', 'the CRC32 does not match');
    this.objects.set(key, { body: arrived, writer: writerIn(request) });
    return response.writeHead(200, { etag: etagOf(arrived) }).end();
  }

  #lock(response: ServerResponse): ServerResponse {
    if (this.#options.locks === 'pretends') return response.writeHead(200).end();
    return refuse(response, 400, 'InvalidRequest', 'Bucket is missing Object Lock Configuration');
  }

  /** An upload in parts. Checksums as AWS's documents have them: those of the parts are announced when it begins, and told again when it is complete. */
  #upload(
    request: IncomingMessage,
    response: ServerResponse,
    { key, body, url }: { readonly key: string; readonly body: Buffer; readonly url: URL },
  ): ServerResponse {
    if (key === '') return this.#listing(response, []);
    if (request.method === 'POST' && url.searchParams.has('uploads')) {
      const algorithm = request.headers['x-amz-checksum-algorithm'];
      this.checksums.add(String(algorithm ?? 'none'));
      const parts = new Map<string, Buffer>();
      this.#uploads.set(key, { algorithm: algorithm === undefined ? algorithm : String(algorithm), writer: writerIn(request), parts });
      return xml(response, '<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>');
    }
    const upload = this.#uploads.get(key);
    if (!upload) return refuse(response, 404, 'NoSuchUpload');
    if (request.method === 'PUT') {
      const checksum = request.headers['x-amz-checksum-crc32'];
      if ((checksum !== undefined) !== (upload.algorithm === 'CRC32'))
        return refuse(response, 400, 'InvalidRequest', 'Checksum Type mismatch');
      upload.parts.set(url.searchParams.get('partNumber') ?? '', body);
      return response.writeHead(200, { etag: etagOf(body), ...(checksum !== undefined && { 'x-amz-checksum-crc32': checksum }) }).end();
    }
    this.#uploads.delete(key);
    if (request.method === 'DELETE') return response.writeHead(204).end();
    const parts = [...upload.parts].sort(([a], [b]) => Number(a) - Number(b)).map(([, part]) => part);
    const told = [...body.toString().matchAll(/<ChecksumCRC32>([^<]+)</g)].map(([, checksum]) => checksum);
    const wanted = upload.algorithm === undefined ? [] : parts.map(checksumOf);
    if (told.join() !== wanted.join()) return refuse(response, 400, 'InvalidPart', 'the checksums of the parts do not match');
    this.objects.set(key, { body: Buffer.concat(parts), writer: upload.writer });
    return xml(response, '<CompleteMultipartUploadResult><ETag>"x"</ETag></CompleteMultipartUploadResult>');
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

  #list(response: ServerResponse, url: URL): ServerResponse {
    const prefix = url.searchParams.get('prefix') ?? '';
    const found = [...this.objects].filter(([key]) => key.startsWith(prefix)).sort(([a], [b]) => (a < b ? -1 : 1));
    const [element, version] = url.searchParams.has('versions') ? ['Version', '<VersionId>null</VersionId>'] : ['Contents', ''];
    const contents = found.map(
      ([key, { body }]) =>
        `<${element}><Key>${key}</Key>${version}<Size>${body.length}</Size><LastModified>${new Date().toISOString()}</LastModified></${element}>`,
    );
    return this.#listing(response, contents);
  }

  #listing(response: ServerResponse, contents: readonly string[]): ServerResponse {
    return xml(response, `<Result><IsTruncated>${this.#options.cutListings ?? false}</IsTruncated>${contents.join('')}</Result>`);
  }
}

function checksumOf(body: Buffer): string {
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(crc32(body));
  return sum.toString('base64');
}

function writerIn({ headers }: IncomingMessage): string | undefined {
  const writer = headers['x-amz-meta-chainkeep-writer'];
  return typeof writer === 'string' ? writer : undefined;
}

function xml(response: ServerResponse, body: string): ServerResponse {
  return response.writeHead(200, { 'content-type': 'application/xml' }).end(body);
}

function etagOf(body: Buffer): string {
  return `"${createHash('md5').update(body).digest('hex')}"`;
}

function refuse(response: ServerResponse, status: number, code: string, message = code, empty = false): ServerResponse {
  const body = `<?xml version="1.0"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`;
  return response.writeHead(status, { 'content-type': 'application/xml' }).end(empty ? undefined : body);
}
