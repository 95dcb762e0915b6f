// Who asks, and where: an address and a key or a signature, from the fields of the settings or from a connection string.
// No part of a secret may stand in a message.

import { ChainkeepError } from '../../plumbing/errors.ts';
import { Secret } from '../../plumbing/secret.ts';
import { secretIn, textIn } from '../config-values.ts';
import type { StoreConfig } from '../store-kind.ts';

export interface AzureCredentials {
  /** Address of the Blob service of the account, without a slash at the end. */
  readonly serviceUrl: string;
  readonly accountName: string;
  readonly accountKey?: Secret;
  /** Without the question mark. */
  readonly sasToken?: Secret;
}

export function azureCredentials(config: StoreConfig): AzureCredentials {
  const accountName = textIn(config, 'account_name');
  if (accountName === undefined) throw invalid('account_name', 'the storage account is missing');
  const connection = connectionParts(secretIn(config, 'connection_string'), accountName);
  const accountKey = secretIn(config, 'account_key') ?? connection?.accountKey;
  const sasToken = secretIn(config, 'sas_token') ?? connection?.sasToken;
  const endpoint = textIn(config, 'endpoint');
  const serviceUrl =
    endpoint === undefined
      ? (connection?.serviceUrl ?? `https://${accountName}.blob.core.windows.net`)
      : withAccount(endpoint, accountName);
  if (accountKey) return { serviceUrl, accountName, accountKey };
  if (sasToken) return { serviceUrl, accountName, sasToken: new Secret(sasToken.reveal().replace(/^\?/, '')) };
  throw invalid('account_key', 'an account key, a SAS token or a connection string is missing');
}

/** An emulator names the account in the path; a cloud of its own has it in the host's name already. */
function withAccount(endpoint: string, accountName: string): string {
  const base = endpoint.replace(/\/+$/, '');
  const { hostname } = new URL(base);
  return hostname.startsWith(`${accountName}.`) || base.endsWith(`/${accountName}`) ? base : `${base}/${accountName}`;
}

/** `AccountName=…;AccountKey=…;EndpointSuffix=…`, as the portal shows it. */
function connectionParts(secret: Secret | undefined, accountName: string): AzureCredentials | undefined {
  if (!secret) return undefined;
  const parts = new Map<string, string>();
  for (const part of secret.reveal().split(';')) {
    const at = part.indexOf('=');
    if (at > 0) parts.set(part.slice(0, at).trim().toLowerCase(), part.slice(at + 1).trim());
  }
  const named = parts.get('accountname');
  if (named !== undefined && named !== accountName) throw invalid('connection_string', 'it is for another account than account_name');
  const key = parts.get('accountkey');
  const sas = parts.get('sharedaccesssignature');
  if (key === undefined && sas === undefined) throw invalid('connection_string', 'it has neither AccountKey nor SharedAccessSignature');
  const protocol = parts.get('defaultendpointsprotocol') ?? 'https';
  const host = `${protocol}://${accountName}.blob.${parts.get('endpointsuffix') ?? 'core.windows.net'}`;
  const serviceUrl = (parts.get('blobendpoint') ?? host).replace(/\/+$/, '');
  const url = URL.parse(serviceUrl);
  if (!url || !/^https?:$/.test(url.protocol) || url.search !== '') throw invalid('connection_string', 'its BlobEndpoint is no address');
  return key === undefined
    ? { serviceUrl, accountName, sasToken: new Secret(sas ?? '') }
    : { serviceUrl, accountName, accountKey: new Secret(key) };
}

function invalid(field: string, what: string): ChainkeepError {
  return new ChainkeepError('CONFIG_INVALID', `${field}: ${what}`, {
    advice: 'give it with --set or --secret; see the settings of azure in the guide',
    context: { settings: [field] },
  });
}
