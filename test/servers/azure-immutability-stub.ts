// A proxy in front of Azurite that adds what Azurite answers with 501: versions, time-based policies, legal holds, and their refusals.
// Written after Azure's documents, never compared with Azure itself; it checks no signature of the requests that it answers alone.

import { once } from 'node:events';
import { createServer, request as httpRequest, type IncomingMessage } from 'node:http';
import { RestError } from '@azure/storage-blob';
import { type KeptVersion, KeptVersions, refusalOf } from './azure-kept-versions.ts';
import { fault, type StubAnswer, versionHeaders, versionListing } from './azure-stub-answers.ts';
import { type AzuriteServer, containerClient } from './azurite.ts';

export interface ImmutabilityStub {
  readonly endpoint: string;
  /** Milliseconds that its clock is ahead: a year passes at once. */
  ahead: number;
  /** Does a plain delete of a locked blob hide it, as a blob with versions, or is it refused? The documents allow both readings. */
  plainDeleteHides: boolean;
  /** Says nothing and does nothing about policies, like a server that only pretends. */
  ignoresPolicies: boolean;
  /** The account has folders of its own. */
  hierarchical: boolean;
  /** Its answers do not say when they were given. */
  dateless: boolean;
  /** Every request that it got: method, path and query. */
  readonly requests: string[];
  /** Is told of each request before it is answered. */
  before: (request: string) => Promise<void> | void;
  stop(): Promise<void>;
}

interface Call {
  readonly method: string;
  readonly path: string;
  readonly container: string;
  readonly key: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

export async function startImmutabilityStub(azurite: AzuriteServer): Promise<ImmutabilityStub> {
  const stub = new Stub(azurite);
  await stub.listen();
  return stub;
}

class Stub implements ImmutabilityStub {
  ahead = 0;
  plainDeleteHides = true;
  ignoresPolicies = false;
  hierarchical = false;
  dateless = false;
  readonly requests: string[] = [];
  before: ImmutabilityStub['before'] = () => undefined;
  readonly #azurite: AzuriteServer;
  readonly #containers = new Map<string, KeptVersions>();
  /** Changes come one after another, and reads of versions between them. */
  #changing: Promise<unknown> = Promise.resolve();
  #port = 0;
  readonly #server = createServer(async (request, response) => {
    const call = await readCall(request);
    this.requests.push(`${call.method} ${call.path}`);
    await this.before(`${call.method} ${call.path}`);
    const answer = await this.#answer(call).catch(answerOfError);
    response.sendDate = false;
    const { date: _, ...headers } = answer.headers;
    response.writeHead(answer.status, { ...headers, ...(!this.dateless && { date: this.#now().toUTCString() }) });
    response.end(call.method === 'HEAD' ? undefined : answer.body);
  });

  constructor(azurite: AzuriteServer) {
    this.#azurite = azurite;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  async listen(): Promise<void> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    const address = this.#server.address();
    this.#port = typeof address === 'object' && address ? address.port : 0;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #now(): Date {
    return new Date(Date.now() + this.ahead);
  }

  #kept(container: string): KeptVersions {
    const known = this.#containers.get(container);
    if (known) return known;
    const kept = new KeptVersions(containerClient(this.#azurite, container), containerClient(this.#azurite, `${container}-shadows`));
    this.#containers.set(container, kept);
    return kept;
  }

  async #answer(call: Call): Promise<StubAnswer> {
    const { method, query } = call;
    if (call.key === '') return this.#answerContainer(call);
    if (method === 'GET' && query.has('comp')) return this.#forward(call);
    const reads = method === 'GET' || method === 'HEAD';
    // A version that is replaced while it is read would be read from where the new one is.
    if (reads && !query.has('versionid')) return this.#read(call);
    const change = this.#changing.then(() => (reads ? this.#read(call) : this.#change(call)));
    this.#changing = change.catch(() => undefined);
    return change;
  }

  async #answerContainer(call: Call): Promise<StubAnswer> {
    const { query } = call;
    if (query.get('comp') === 'list' && query.get('include')?.includes('versions')) {
      const most = Number(query.get('maxresults') ?? 5000);
      return versionListing(this.#kept(call.container), { prefix: query.get('prefix') ?? '', marker: query.get('marker') ?? '', most });
    }
    const answer = await this.#forward(call);
    const extra = {
      ...(!query.has('comp') && { 'x-ms-immutable-storage-with-versioning-enabled': 'true' }),
      ...(query.get('comp') === 'properties' && { 'x-ms-is-hns-enabled': String(this.hierarchical) }),
    };
    return { ...answer, headers: { ...answer.headers, ...extra } };
  }

  #change(call: Call): Promise<StubAnswer> {
    const comp = call.query.get('comp');
    if (comp === 'immutabilityPolicies') return this.#changePolicy(call);
    if (comp === 'legalhold') return this.#changeHold(call);
    if (call.method === 'DELETE') return this.#delete(call);
    if (call.method === 'PUT' && (comp === null || comp === 'blocklist')) return this.#write(call);
    const version = this.#kept(call.container).current(call.key);
    const refusal = comp === 'metadata' && version ? refusalOf(version, this.#now()) : undefined;
    return refusal ? Promise.resolve(fault(409, refusal)) : this.#forward(call);
  }

  async #write(call: Call): Promise<StubAnswer> {
    const kept = this.#kept(call.container);
    await kept.save(call.key);
    const answer = await this.#forward(call);
    if (answer.status !== 201) return answer;
    const { id } = await kept.add(call.key, this.#now());
    return { ...answer, headers: { ...answer.headers, 'x-ms-version-id': id } };
  }

  async #delete(call: Call): Promise<StubAnswer> {
    const kept = this.#kept(call.container);
    const id = call.query.get('versionid');
    const version = kept.find(call.key, id);
    if (!version) return id === null ? this.#forward(call) : fault(404, 'BlobNotFound');
    const refusal = refusalOf(version, this.#now());
    if (id === null) {
      if (refusal && !this.plainDeleteHides) return fault(409, refusal);
      await kept.save(call.key);
      const answer = await this.#forward(call);
      if (answer.status === 202) kept.hide(call.key);
      return answer;
    }
    if (version.current) return fault(403, 'OperationNotAllowedOnRootBlob');
    if (refusal) return fault(409, refusal);
    await kept.remove(call.key, version);
    return { status: 202, headers: {} };
  }

  async #changePolicy({ method, container, key, query, headers }: Call): Promise<StubAnswer> {
    const version = this.#kept(container).find(key, query.get('versionid'));
    if (!version) return fault(404, 'BlobNotFound');
    if (this.ignoresPolicies) return { status: 200, headers: {} };
    if (method === 'DELETE') {
      if (version.mode === 'locked') return fault(409, 'ImmutabilityPolicyDeleteOnLockedPolicy');
      delete version.until;
      delete version.mode;
      return { status: 200, headers: {} };
    }
    const until = new Date(String(headers['x-ms-immutability-policy-until-date']));
    const mode = String(headers['x-ms-immutability-policy-mode'] ?? 'unlocked').toLowerCase() === 'locked' ? 'locked' : 'unlocked';
    if (!(until > this.#now())) return fault(400, 'InvalidHeaderValue');
    if (version.mode === 'locked' && (mode !== 'locked' || until < (version.until ?? until))) return fault(409, 'BlobImmutableDueToPolicy');
    version.until = until;
    version.mode = mode;
    return { status: 200, headers: versionHeaders(version) };
  }

  async #changeHold({ container, key, query, headers }: Call): Promise<StubAnswer> {
    const version = this.#kept(container).find(key, query.get('versionid'));
    if (!version) return fault(404, 'BlobNotFound');
    version.hold = headers['x-ms-legal-hold'] === 'true';
    return { status: 200, headers: { 'x-ms-legal-hold': String(version.hold) } };
  }

  async #read(call: Call): Promise<StubAnswer> {
    const kept = this.#kept(call.container);
    const id = call.query.get('versionid');
    const version = kept.find(call.key, id);
    if (id === null) {
      const answer = await this.#forward(call);
      return version && answer.status < 300 ? { ...answer, headers: { ...answer.headers, ...versionHeaders(version) } } : answer;
    }
    if (!version) return fault(404, 'BlobNotFound');
    const wanted = call.headers['if-match'];
    if (wanted !== undefined && wanted !== version.etag) return fault(412, 'ConditionNotMet');
    return readVersion(kept, call, version);
  }

  async #forward({ method, path, headers, body }: Call): Promise<StubAnswer> {
    const request = httpRequest(`${this.#azurite.endpoint}${path}`, { method, headers });
    request.end(body);
    const response = await new Promise<IncomingMessage>((resolve, reject) => request.on('response', resolve).on('error', reject));
    const passed = Object.entries(response.headers).filter(
      ([name]) => !['connection', 'keep-alive', 'transfer-encoding', 'date'].includes(name),
    );
    return {
      status: response.statusCode ?? 500,
      headers: Object.fromEntries(passed.map(([name, value]) => [name, String(value)])),
      body: await collect(response),
    };
  }
}

/** By a client of its own: a version has no address in Azurite. */
async function readVersion(kept: KeptVersions, { method, key, headers }: Call, version: KeptVersion): Promise<StubAnswer> {
  const client = kept.client(key, version);
  const own = { ...versionHeaders(version), etag: version.etag, 'last-modified': version.modified.toUTCString() };
  if (method === 'HEAD') {
    const { _response: response } = await client.getProperties();
    return { status: 200, headers: { ...response.headers.toJson(), ...own } };
  }
  const [, from = '0', to] = /^bytes=(\d+)-(\d*)$/.exec(String(headers['x-ms-range'] ?? headers.range ?? '')) ?? [];
  const count = to ? Number(to) - Number(from) + 1 : undefined;
  const answer = await client.download(Number(from), count, { rangeGetContentMD5: headers['x-ms-range-get-content-md5'] === 'true' });
  const { 'transfer-encoding': _, ...relayed } = answer._response.headers.toJson();
  return { status: answer._response.status, headers: { ...relayed, ...own }, body: await collect(answer.readableStreamBody ?? []) };
}

async function readCall(request: IncomingMessage): Promise<Call> {
  const path = request.url ?? '/';
  const { pathname, searchParams } = new URL(path, 'http://stub');
  const [, , container = '', ...key] = pathname.split('/').map(decodeURIComponent);
  const { method = 'GET', headers } = request;
  return { method, path, container, key: key.join('/'), query: searchParams, headers, body: await collect(request) };
}

async function collect(stream: AsyncIterable<unknown> | Iterable<unknown>): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of stream) if (Buffer.isBuffer(piece)) pieces.push(piece);
  return Buffer.concat(pieces);
}

function answerOfError(error: unknown): StubAnswer {
  if (error instanceof RestError && error.statusCode !== undefined) return fault(error.statusCode, error.code ?? 'Unknown');
  return fault(500, 'InternalError');
}
