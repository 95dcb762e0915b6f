// The connection to one bucket: the SDK's client with our limits, our repetitions and our errors. Loads the SDK when it is first opened.
// Nothing goes to the server but through `ask`: so everything is tried again, and nothing is reported in the words of the SDK.

import type * as Sdk from '@aws-sdk/client-s3';
import type { S3Client, S3ClientConfig } from '@aws-sdk/client-s3';
import { systemClock } from '../../plumbing/clock.ts';
import { throwIfCancelled } from '../../plumbing/errors.ts';
import { OBJECT_RETRY, openObjectBudget, repeatRequest } from '../object/retry.ts';
import { type FailedRequest, s3Error } from './s3-errors.ts';
import type { S3Settings } from './s3-settings.ts';

export type S3Sdk = typeof Sdk;

/** Milliseconds. A connection that is silent for this long is given up, and the request is sent again. */
const CONNECT_MS = 10_000;
const SILENCE_MS = 60_000;
const MOST_SOCKETS = 64;

export interface Request {
  /** What is being done, for messages: `read vms/…`. */
  readonly action: string;
  readonly writes?: boolean;
  readonly signal?: AbortSignal | undefined;
}

export interface S3Connection {
  readonly settings: S3Settings;
  readonly sdk: S3Sdk;
  /** Sends what `work` sends, again where that may help. `work` is told which attempt it is, from 1; what it throws becomes an error of this house. */
  ask<T>(request: Request, work: (client: S3Client, options: { abortSignal: AbortSignal }, attempt: number) => Promise<T>): Promise<T>;
  /** The time as the server sees it, by its last answer; milliseconds since 1970, true to a second or two. */
  now(): number;
  /** Ends what is under way. */
  close(): void;
}

export async function openS3Connection(settings: S3Settings): Promise<S3Connection> {
  const sdk = await import('@aws-sdk/client-s3');
  const client = new sdk.S3Client(clientConfig(settings));
  const budget = openObjectBudget();
  const closing = new AbortController();
  let ahead = 0;
  noteDates(client, (date) => {
    ahead = date - systemClock.now();
  });
  const { place, bucket, region } = settings;
  return {
    settings,
    sdk,
    ask: ({ action, writes = false, signal }, work) => {
      const failed: FailedRequest = { place, bucket, region, action, writes };
      const abortSignal = signal ? AbortSignal.any([signal, closing.signal]) : closing.signal;
      const attempt = async (count: number): ReturnType<typeof work> => {
        try {
          return await work(client, { abortSignal }, count);
        } catch (error) {
          throwIfCancelled(abortSignal);
          throw s3Error(error, failed);
        }
      };
      return repeatRequest(attempt, { policy: OBJECT_RETRY, budget, signal: abortSignal });
    },
    now: () => systemClock.now() + ahead,
    close: () => {
      closing.abort();
      client.destroy();
    },
  };
}

/** Every answer says when it was given; the SDK keeps that to itself. */
function noteDates(client: S3Client, note: (date: number) => void): void {
  client.middlewareStack.add(
    (next) => async (args) => {
      const result = await next(args);
      const { response } = result;
      if (typeof response === 'object' && response !== null && 'headers' in response) note(dateIn(response.headers) ?? systemClock.now());
      return result;
    },
    { step: 'deserialize', name: 'chainkeepServerTime', priority: 'low' },
  );
}

function dateIn(headers: unknown): number | undefined {
  const date = typeof headers === 'object' && headers !== null && 'date' in headers ? Date.parse(String(headers.date)) : Number.NaN;
  return Number.isNaN(date) ? undefined : date;
}

function clientConfig(settings: S3Settings): S3ClientConfig {
  const { region, endpoint, pathStyle, keys, checksums } = settings;
  const agent = { keepAlive: true, maxSockets: MOST_SOCKETS };
  const when = checksums ? 'WHEN_SUPPORTED' : 'WHEN_REQUIRED';
  return {
    region,
    forcePathStyle: pathStyle,
    maxAttempts: 1, // repetitions are ours: they also cover a body that ends too early
    requestChecksumCalculation: when,
    responseChecksumValidation: when,
    requestHandler: { connectionTimeout: CONNECT_MS, socketTimeout: SILENCE_MS, httpAgent: agent, httpsAgent: agent },
    ...(endpoint !== undefined && { endpoint }),
    ...(keys && { credentials: credentials(keys) }),
  };
}

function credentials({ id, secret, token }: NonNullable<S3Settings['keys']>): NonNullable<S3ClientConfig['credentials']> {
  return {
    accessKeyId: id,
    secretAccessKey: secret.reveal(),
    ...(token && { sessionToken: token.reveal() }),
  };
}
