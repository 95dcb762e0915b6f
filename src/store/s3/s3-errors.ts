// Turns what the SDK throws into the store's errors: what it means for a user, and whether it may pass by itself.
// It must not repeat a key or a header: messages of the SDK are shown, requests never.

import { ChainkeepError, type ErrorCode, type ErrorContext, isChainkeepError, systemCode } from '../../plumbing/errors.ts';

export interface FailedRequest {
  /** For messages. */
  readonly place: string;
  readonly bucket: string;
  readonly region: string;
  /** What was being done: `read vms/…`. */
  readonly action: string;
  readonly writes: boolean;
}

interface Meaning {
  readonly code: ErrorCode;
  readonly what: (request: FailedRequest, fault: Fault) => string;
  readonly advice: string;
  readonly retryable?: boolean;
}

/** What can be known of an error of the SDK. */
export interface Fault {
  readonly name: string;
  readonly message: string;
  readonly status: number | undefined;
}

const offline = (what: Meaning['what'], advice: string, retryable = false): Meaning => ({
  code: 'REPOSITORY_OFFLINE',
  what,
  advice,
  retryable,
});
/** A server that does not get well says nothing of what it keeps: that must not be taken for damage. */
const passing: Meaning = {
  code: 'REPOSITORY_OFFLINE',
  what: ({ action }, { message }) => `cannot ${action}: ${message}`,
  advice: 'the server had a moment of weakness and did not recover; try again later',
  retryable: true,
};
/** It answers, and what it says or gets is not right: when that does not pass either, it may be what it keeps. */
const spoilt: Meaning = { ...passing, code: 'STORE_FAILED' };
const badKey = offline(
  ({ place }, { name }) => `${place} does not accept the access key (${name})`,
  'check access_key_id and secret_access_key: chainkeep repo update --help shows how they are changed',
);
const ended = offline(({ place }) => `the temporary key for ${place} has ended`, 'give a new key with its session_token');
const elsewhere = offline(
  ({ bucket, region }, { message }) => `the bucket ${bucket} is not in region ${region}: ${message}`,
  'correct the setting region (and endpoint, if it is given)',
);

/** By the server's word for it. */
const MEANINGS: ReadonlyMap<string, Meaning> = new Map(
  Object.entries({
    NoSuchBucket: offline(({ bucket, place }) => `there is no bucket ${bucket} at ${place}`, 'make the bucket first, or correct its name'),
    InvalidAccessKeyId: badKey,
    SignatureDoesNotMatch: badKey,
    InvalidToken: badKey,
    ExpiredToken: ended,
    TokenRefreshRequired: ended,
    CredentialsProviderError: offline(
      ({ place }) => `no credentials for ${place} were found on this machine`,
      'give access_key_id and secret_access_key, or set up a profile or a role',
    ),
    PermanentRedirect: elsewhere,
    AuthorizationHeaderMalformed: elsewhere,
    IllegalLocationConstraintException: elsewhere,
    RequestTimeTooSkewed: offline(
      ({ place }) => `the clock of this machine and that of ${place} differ too much`,
      'set the clock of this machine: the server refuses requests that are minutes away from its own time',
      true, // the SDK has learned the difference from the answer
    ),
    RequestTimeout: passing,
    RequestTimeoutException: passing,
    SlowDown: passing,
    ThrottlingException: passing,
    TooManyRequests: passing,
    InternalError: passing,
    ServiceUnavailable: passing,
    OperationAborted: passing,
    ConditionalRequestConflict: passing,
    // Bytes that came out different on the way: the next attempt sends them again.
    BadDigest: spoilt,
    IncompleteBody: spoilt,
    XAmzContentSHA256Mismatch: spoilt,
    XAmzContentChecksumMismatch: spoilt,
    EntityTooLarge: {
      code: 'BLOB_TOO_LARGE',
      what: ({ action }, { message }) => `cannot ${action}: ${message}`,
      advice: 'the server takes smaller objects than it should; see upload_part_size_mib',
    },
    QuotaExceeded: {
      code: 'INSUFFICIENT_STORAGE',
      what: ({ action, place }) => `cannot ${action}: the quota of ${place} is used up`,
      advice: 'delete backups, or raise the quota of the bucket or user',
    },
  } satisfies Record<string, Meaning>),
);

const denied = (writes: boolean): Meaning => ({
  code: writes ? 'REPOSITORY_READ_ONLY' : 'REPOSITORY_OFFLINE',
  what: ({ action, place }) => `cannot ${action}: the key has no permission at ${place}`,
  advice: 'the guide page on S3 lists the permissions that are needed',
});

const NETWORK = offline(
  ({ place }, { message }) => `${place} cannot be reached: ${message}`,
  'check the endpoint, the network and that the server runs',
  true,
);
const CERTIFICATE = offline(
  ({ place }, { message }) => `the certificate of ${place} is not trusted: ${message}`,
  'name the authority that signed it in the environment: NODE_EXTRA_CA_CERTS=/path/to/ca.pem',
);

const NETWORK_NAMES: ReadonlySet<string> = new Set(['TimeoutError', 'NetworkingError', 'AbortError']);
const CERTIFICATE_CODES = /^(CERT_|SELF_SIGNED|DEPTH_ZERO|UNABLE_TO_|ERR_TLS)/;

/** Characters. */
const MOST_SAID = 300;

/** The store's error; one of this house is passed through. */
export function s3Error(error: unknown, request: FailedRequest): ChainkeepError {
  if (isChainkeepError(error)) return error;
  const fault = faultOf(error);
  const meaning = meaningOf(error, fault, request);
  const context: ErrorContext = {
    place: request.place,
    s3_error: fault.name,
    ...(fault.status !== undefined && { status: fault.status }),
    system_code: systemCode(error),
  };
  return new ChainkeepError(meaning.code, meaning.what(request, fault), {
    advice: meaning.advice,
    retryable: meaning.retryable ?? false,
    cause: error,
    context,
  });
}

function meaningOf(error: unknown, fault: Fault, request: FailedRequest): Meaning {
  const known = MEANINGS.get(fault.name);
  if (known) return known;
  const { status = 0 } = fault;
  if (status === 507) return { ...passing, code: 'INSUFFICIENT_STORAGE', advice: 'free space on the server', retryable: false };
  if (status >= 500 || status === 429 || status === 408) return passing;
  if (status === 301) return elsewhere;
  if (status === 403 || status === 401) return denied(request.writes);
  if (status >= 400) return { ...spoilt, advice: 'check the settings of the repository and the log of the server', retryable: false };
  const code = systemCode(error) ?? '';
  if (CERTIFICATE_CODES.test(code)) return CERTIFICATE;
  if (code !== '' || NETWORK_NAMES.has(fault.name)) return NETWORK;
  // An answer that makes no sense (an error in a body that began well, cut XML): the next one may.
  return spoilt;
}

export function faultOf(error: unknown): Fault {
  if (!(error instanceof Error)) return { name: 'Unknown', message: String(error), status: undefined };
  const metadata = '$metadata' in error && typeof error.$metadata === 'object' ? error.$metadata : undefined;
  const status = metadata && 'httpStatusCode' in metadata ? metadata.httpStatusCode : undefined;
  const said = error.message === '' || error.message === 'UnknownError' ? error.name : error.message;
  // A proxy may answer with a page: one line of it is enough.
  const message = (said.trim().split('\n', 1)[0] ?? '').slice(0, MOST_SAID);
  return { name: error.name, message, status: typeof status === 'number' ? status : undefined };
}

/** 404, in the words of GET and of HEAD. */
export function isNotFound(error: unknown): boolean {
  const { name } = faultOf(error);
  return name === 'NoSuchKey' || name === 'NotFound' || name === 'NoSuchVersion';
}

export function isRefusedCondition(error: unknown): boolean {
  const { name, status } = faultOf(error);
  return name === 'PreconditionFailed' || status === 412;
}
