// Turns the errors of Azure's client into the store's errors, with what a user can do about them.
// It must keep nothing of the request that failed: its address may hold a signature that opens the storage.

import { ChainkeepError, type ErrorCode, isChainkeepError } from '../../plumbing/errors.ts';

export interface FailedRequest {
  readonly place: string;
  readonly action: 'read' | 'write' | 'delete' | 'list' | 'protect';
  /** The blob, or the prefix of a listing. */
  readonly name: string;
  /** What the request demanded of the blob: that it is not there, or that it is the one that was opened. */
  readonly condition?: 'absent' | 'same';
}

interface Answer {
  /** 0 where there was no answer. */
  readonly status: number;
  /** Azure's name of the fault, or the system's. */
  readonly code: string;
  /** One line. */
  readonly text: string;
}

interface Meaning {
  readonly code: ErrorCode;
  readonly advice: string;
}

const GONE = 'check the names of the account and the container; nothing was changed';
const WHO =
  'check the account key, the SAS token (its dates too) or the connection string, the firewall of the account, and the clock of this machine';

const MEANINGS: Readonly<Record<string, Meaning>> = {
  ContainerNotFound: { code: 'REPOSITORY_OFFLINE', advice: GONE },
  ContainerBeingDeleted: { code: 'REPOSITORY_OFFLINE', advice: GONE },
  ContainerDisabled: { code: 'REPOSITORY_OFFLINE', advice: 'enable the container again' },
  AccountIsDisabled: { code: 'REPOSITORY_OFFLINE', advice: 'enable the storage account again' },
  AuthenticationFailed: { code: 'REPOSITORY_OFFLINE', advice: WHO },
  InvalidAuthenticationInfo: { code: 'REPOSITORY_OFFLINE', advice: WHO },
  AuthorizationFailure: { code: 'REPOSITORY_OFFLINE', advice: WHO },
  BlobAlreadyExists: { code: 'BLOB_EXISTS', advice: 'another writer was faster' },
  BlobImmutableDueToPolicy: { code: 'IMMUTABLE_RETENTION_ACTIVE', advice: 'wait until the date has passed; nobody can shorten it' },
  BlobImmutableDueToLegalHold: { code: 'HOLD_ACTIVE', advice: 'lift the hold first' },
  InvalidBlockList: {
    code: 'STORE_FAILED',
    advice: 'blocks are gone: another writer wrote the same blob, or they were taken for leftovers; nothing was committed, run it again',
  },
  RequestBodyTooLarge: { code: 'BLOB_TOO_LARGE', advice: 'use smaller parts' },
  BlockCountExceedsLimit: { code: 'BLOB_TOO_LARGE', advice: 'use larger parts' },
  BlockListTooLong: { code: 'BLOB_TOO_LARGE', advice: 'use larger parts' },
  APINotImplemented: { code: 'NOT_SUPPORTED', advice: 'this server cannot do it; Azure itself can' },
};

/** Statuses and names of faults that may pass: the request is worth another attempt. */
const PASSING_STATUS: ReadonlySet<number> = new Set([408, 429, 500, 502, 503, 504]);
/** Bytes that were changed or cut on their way, and requests that our own time limit ended. */
const PASSING_CODES: ReadonlySet<string> = new Set([
  'Md5Mismatch',
  'Crc64Mismatch',
  'IncompleteBody',
  'PARSE_ERROR',
  'AbortError',
  // Also what a list says that was changed on its way to a server that checks no digest of it.
  'InvalidBlockList',
  'InvalidBlockId',
  'InvalidXmlDocument',
]);
/** What a network says when there was no answer at all. */
const NETWORK = /^(E[A-Z_]+|HPE_[A-Z_]+|REQUEST_SEND_ERROR|ERR_STREAM_PREMATURE_CLOSE|ERR_SSL_.*|UND_.*)$/;

/** The store's error for a failed request. `retryable` where another attempt may succeed. */
export function azureError(error: unknown, request: FailedRequest): ChainkeepError {
  if (isChainkeepError(error)) return error;
  const answer = answerOf(error);
  const meaning = meaningOf(answer, request);
  const passing = mayPass(answer);
  const { place, action, name } = request;
  const where = name === '' ? place : `${name} in ${place}`;
  const context = { place, name, status: answer.status || undefined, azure_code: answer.code };
  if (meaning?.code === 'BLOB_NOT_FOUND') return new ChainkeepError('BLOB_NOT_FOUND', `there is no ${where}`, { context });
  const said = [answer.status || '', answer.code, answer.text].filter((part) => part !== '').join(' ');
  return new ChainkeepError(meaning?.code ?? (passing ? 'REPOSITORY_OFFLINE' : 'STORE_FAILED'), `cannot ${action} ${where}: ${said}`, {
    advice:
      meaning?.advice ?? (passing ? 'check the network and the state of the service, then run it again' : 'check the log of the account'),
    retryable: passing,
    context,
    cause: new Error(said), // not the client's own error: it carries the whole request
  });
}

function mayPass({ status, code }: Answer): boolean {
  // Azure names every fault; a bad request without a name was damaged on its way, or answered by something in between.
  const nameless = status === 400 && code === 'RestError';
  return nameless || PASSING_STATUS.has(status) || PASSING_CODES.has(code) || (status === 0 && NETWORK.test(code));
}

function meaningOf({ status, code }: Answer, { action, condition }: FailedRequest): Meaning | undefined {
  // A lease is 412 too, and says nothing of the condition: our own sweep holds one for a moment.
  const refused = (status === 412 && !code.startsWith('Lease')) || code === 'ConditionNotMet' || code === 'TargetConditionNotMet';
  if (condition === 'absent' && refused) return MEANINGS.BlobAlreadyExists;
  if (condition === 'same' && (refused || code === 'BlobNotFound')) {
    return { code: 'BLOB_CHANGED', advice: 'open it again; it was replaced or deleted meanwhile' };
  }
  if (code === 'AuthorizationPermissionMismatch') {
    return action === 'read' || action === 'list'
      ? { code: 'REPOSITORY_OFFLINE', advice: 'the SAS token needs the permissions read and list' }
      : { code: 'REPOSITORY_READ_ONLY', advice: 'the SAS token needs the permissions read, add, create, write, delete and list' };
  }
  if (code === 'BlobNotFound' || code === 'ResourceNotFound') return { code: 'BLOB_NOT_FOUND', advice: '' };
  return Object.hasOwn(MEANINGS, code) ? MEANINGS[code] : undefined;
}

function answerOf(error: unknown): Answer {
  const status = propertyOf(error, 'statusCode');
  // A HEAD has no body: the name of the fault is in a header then.
  const details = propertyOf(error, 'details');
  const code = [propertyOf(error, 'code'), propertyOf(details, 'errorCode'), propertyOf(error, 'name')].find(
    (value) => typeof value === 'string' && value !== '',
  );
  const message = error instanceof Error ? error.message : String(error);
  return {
    status: typeof status === 'number' ? status : 0,
    code: typeof code === 'string' && code !== 'Error' ? code : 'unknown',
    text: (message.split('\n', 1)[0] ?? '').slice(0, 300),
  };
}

function propertyOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && name in value ? Reflect.get(value, name) : undefined;
}

/** Azure's own name of the fault, of an error that came from `azureError`. */
export function azureCodeOf(error: unknown): string | undefined {
  const code = isChainkeepError(error) ? error.context.azure_code : undefined;
  return typeof code === 'string' ? code : undefined;
}
