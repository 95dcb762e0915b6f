// Who asks, and where: addresses and keys out of settings and connection strings, and no secret in a refusal.

import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { Secret } from '../../../src/plumbing/secret.ts';
import { azureCredentials } from '../../../src/store/azure/azure-credentials.ts';

const ACCOUNT = { account_name: 'acme', container_name: 'vms' };
const KEY = { account_key: new Secret('a2V5') };

const connection = (text: string) => ({ ...ACCOUNT, connection_string: new Secret(text) });

it.each([
  [{}, 'https://acme.blob.core.windows.net'],
  [{ endpoint: 'https://acme.blob.core.chinacloudapi.cn/' }, 'https://acme.blob.core.chinacloudapi.cn'],
  [{ endpoint: 'http://127.0.0.1:10000' }, 'http://127.0.0.1:10000/acme'],
  [{ endpoint: 'http://127.0.0.1:10000/acme' }, 'http://127.0.0.1:10000/acme'],
])('the address for %j is %s', (settings, serviceUrl) => {
  expect(azureCredentials({ ...ACCOUNT, ...KEY, ...settings }).serviceUrl).toBe(serviceUrl);
});

describe('a connection string', () => {
  it('gives a key or a signature, and the address', () => {
    const full = azureCredentials(
      connection('DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=a2V5==;EndpointSuffix=core.windows.net'),
    );
    expect(full).toMatchObject({ serviceUrl: 'https://acme.blob.core.windows.net', accountName: 'acme' });
    expect(full.accountKey?.reveal()).toBe('a2V5==');
    const signed = azureCredentials(connection('BlobEndpoint=https://acme.blob.example/;SharedAccessSignature=?sv=1&sig=x%3D'));
    expect(signed.serviceUrl).toBe('https://acme.blob.example');
    expect(signed.sasToken?.reveal()).toBe('sv=1&sig=x%3D');
    const elsewhere = azureCredentials({ ...connection('AccountName=acme;AccountKey=a2V5'), endpoint: 'http://127.0.0.1:1' });
    expect(elsewhere.serviceUrl).toBe('http://127.0.0.1:1/acme');
  });

  it.each([
    ['AccountName=other;AccountKey=hush', 'another account'],
    ['AccountName=acme;hush', 'neither'],
    ['hush', 'neither'],
    ['AccountKey=hush;BlobEndpoint=hush', 'no address'],
    ['AccountKey=hush;BlobEndpoint=https://host/?sig=hush', 'no address'],
  ])('%s is refused without being repeated', (text, why) => {
    let refusal: unknown;
    try {
      azureCredentials(connection(text));
    } catch (error) {
      refusal = error;
    }
    expect(refusal).toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringContaining(why) });
    expect(inspect(refusal, { depth: 9 })).not.toContain('hush');
  });
});

it('without any of them nothing is asked', () => {
  for (const config of [ACCOUNT, KEY, {}]) expect(() => azureCredentials(config)).toThrow(/missing/);
});
