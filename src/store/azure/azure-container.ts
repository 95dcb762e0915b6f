// One container of a storage account: the vendor's client with its own repetitions off, how names become keys, and one way to send a request.
// It must not know what a request is for.

import { ContainerClient, StorageSharedKeyCredential } from '@azure/storage-blob';
import { ChainkeepError, throwIfCancelled } from '../../plumbing/errors.ts';
import { DEFAULT_RETRY, RetryBudget, type RetryPolicy, withRetry } from '../object/retry.ts';
import { placeOf } from '../place-of.ts';
import type { StoreConfig } from '../store-kind.ts';
import { azureCredentials } from './azure-credentials.ts';
import { azureError, type FailedRequest } from './azure-errors.ts';

/** A request that has no answer by then is given up and sent again: a connection may be dead without a sign. */
const REQUEST_MS = 60_000;
/** And this much longer for what it carries: a line of 2 Mbit/s. */
const BYTES_PER_MS = 250;

export interface AzureRequest extends Omit<FailedRequest, 'place'> {
  readonly signal?: AbortSignal;
  /** Bytes that it carries. */
  readonly bytes?: number;
}

export class AzureContainer {
  readonly place: string;
  readonly client: ContainerClient;
  /** Empty, or ends in a slash. */
  readonly #prefix: string;
  readonly #policy: RetryPolicy;
  readonly #budget = new RetryBudget();

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

  /** Sends a request until it passes, fails for good, or was tried often enough. `send` is told which attempt it is, from 1. */
  request<Answer>(request: AzureRequest, send: (abortSignal: AbortSignal, attempt: number) => Promise<Answer>): Promise<Answer> {
    const { signal, bytes = 0 } = request;
    const retry = { policy: this.#policy, budget: this.#budget, ...(signal && { signal }) };
    return withRetry(async (attempt) => {
      const limit = AbortSignal.timeout(REQUEST_MS + Math.ceil(bytes / BYTES_PER_MS));
      try {
        return await send(signal ? AbortSignal.any([signal, limit]) : limit, attempt);
      } catch (error) {
        throwIfCancelled(signal);
        throw azureError(error, { ...request, place: this.place });
      }
    }, retry);
  }
}

export function openContainer(config: StoreConfig, policy: RetryPolicy = DEFAULT_RETRY): AzureContainer {
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
  const client = new ContainerClient(url, credential, { retryOptions: { maxTries: 1 } });
  return new AzureContainer(client, placeOf('azure', config), typeof prefix === 'string' && prefix !== '' ? `${prefix}/` : '', policy);
}
