// One container of a storage account: the vendor's client with its own repetitions off, how names become keys, and one way to send a request.
// It must not know what a request is for.

import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { ContainerClient, newPipeline, type RequestPolicyFactory, StorageSharedKeyCredential } from '@azure/storage-blob';
import { ChainkeepError, throwIfCancelled } from '../../plumbing/errors.ts';
import type { RetryPolicy } from '../../plumbing/retry.ts';
import { OBJECT_RETRY, openObjectBudget, repeatRequest } from '../object/retry.ts';
import { placeOf } from '../place-of.ts';
import type { StoreConfig } from '../store-kind.ts';
import { azureCredentials } from './azure-credentials.ts';
import { azureError, type FailedRequest } from './azure-errors.ts';

/** A request on which nothing moves for this long is given up and sent again: a connection may be dead without a sign. */
const SILENCE_MS = 60_000;
/** Bytes that leave at once: each is a sign of life of an upload. */
const SLICE = 256 * 1024;

export interface AzureRequest extends Omit<FailedRequest, 'place'> {
  readonly signal?: AbortSignal;
}

export interface Attempt {
  readonly abortSignal: AbortSignal;
  /** From 1. */
  readonly count: number;
  /** To be called when bytes have moved. */
  readonly moved: () => void;
}

export class AzureContainer {
  readonly place: string;
  readonly client: ContainerClient;
  /** Empty, or ends in a slash. */
  readonly #prefix: string;
  readonly #policy: RetryPolicy;
  readonly #budget = openObjectBudget();
  readonly #closing = new AbortController();

  constructor(client: ContainerClient, place: string, prefix: string, policy: RetryPolicy) {
    this.client = client;
    this.place = place;
    this.#prefix = prefix;
    this.#policy = policy;
  }

  keyOf(name: string): string {
    return this.#prefix + name;
  }

  nameOf(key: string): string {
    return key.slice(this.#prefix.length);
  }

  /** Sends a request until it passes, fails for good, or was tried often enough. */
  request<Answer>(request: AzureRequest, send: (attempt: Attempt) => Promise<Answer>): Promise<Answer> {
    const signals = [this.#closing.signal, ...(request.signal ? [request.signal] : [])];
    const signal = AbortSignal.any(signals);
    return repeatRequest(
      async (count) => {
        const silence = new AbortController();
        const timer = setTimeout(() => silence.abort(), SILENCE_MS);
        try {
          const abortSignal = AbortSignal.any([...signals, silence.signal]);
          return await send({ abortSignal, count, moved: () => timer.refresh() });
        } catch (error) {
          throwIfCancelled(signal);
          throw azureError(error, { ...request, place: this.place });
        } finally {
          clearTimeout(timer);
        }
      },
      { policy: this.#policy, budget: this.#budget, signal },
    );
  }

  /** Ends what is under way. */
  close(): void {
    this.#closing.abort();
  }
}

/** The body of a request, piece by piece, so that a slow line is not taken for a dead one. */
export function bodyOf(content: Uint8Array, moved: () => void): () => NodeJS.ReadableStream {
  const slices = function* (): Generator<Uint8Array> {
    for (let at = 0; at < content.byteLength; at += SLICE) {
      moved();
      yield content.subarray(at, at + SLICE);
    }
  };
  return () => Readable.from(slices(), { objectMode: false });
}

/** The client gives blocks a digest for their way, and lists of blocks none: those are the requests whose body is text. */
const DIGEST_OF_TEXT: RequestPolicyFactory = {
  create: (next) => ({
    sendRequest: (request) => {
      const { body, headers } = request;
      if (typeof body === 'string') headers.set('Content-MD5', createHash('md5').update(body).digest('base64'));
      return next.sendRequest(request);
    },
  }),
};

export function openContainer(config: StoreConfig, policy: RetryPolicy = OBJECT_RETRY): AzureContainer {
  const { container_name: name, prefix } = config;
  if (typeof name !== 'string') {
    throw new ChainkeepError('CONFIG_INVALID', 'an Azure repository needs the setting "container_name"', {
      advice: 'register it again with it',
    });
  }
  const { serviceUrl, accountName, accountKey, sasToken } = azureCredentials(config);
  const url = `${serviceUrl}/${name}${sasToken ? `?${sasToken.reveal()}` : ''}`;
  const credential = accountKey && new StorageSharedKeyCredential(accountName, accountKey.reveal());
  // One attempt: who repeats, how long it waits and when it gives up is decided in one place for all object stores.
  const pipeline = newPipeline(credential, { retryOptions: { maxTries: 1 } });
  pipeline.factories.unshift(DIGEST_OF_TEXT);
  const client = new ContainerClient(url, pipeline);
  return new AzureContainer(client, placeOf('azure', config), typeof prefix === 'string' && prefix !== '' ? `${prefix}/` : '', policy);
}
