// A Secret shows nothing of itself, whichever way it is printed, copied or put into something else.

import { inspect } from 'node:util';
import { deserialize, serialize } from 'node:v8';
import { expect, it } from 'vitest';
import { ChainkeepError } from '../../src/plumbing/errors.ts';
import { REDACTED, Secret } from '../../src/plumbing/secret.ts';

const VALUE = 'canary-7f3a91';
const secret = new Secret(VALUE);

it('is answered by reveal alone', () => {
  expect(secret.reveal()).toBe(VALUE);
});

it.each<[string, () => unknown]>([
  ['String', () => String(secret)],
  ['a template', () => `${secret}`],
  ['a sum', () => 'x'.concat(secret as unknown as string)],
  ['toString', () => secret.toString()],
  ['toLocaleString', () => secret.toLocaleString()],
  ['JSON', () => JSON.stringify({ a: [secret] })],
  ['join', () => [secret, secret].join()],
  ['inspect', () => inspect({ a: { b: { c: { d: secret } } } }, { depth: 9, showHidden: true, getters: true })],
  ['inspect of a map', () => inspect(new Map([['a', secret]]), { depth: 9 })],
  ['the format of console', () => inspect(secret, { customInspect: false, showHidden: true })],
  ['its properties', () => JSON.stringify([Object.entries(secret), Reflect.ownKeys(secret), { ...secret }])],
  ['a clone', () => inspect(structuredClone(secret), { showHidden: true, customInspect: false })],
  ['serialisation', () => inspect(deserialize(serialize({ secret })), { depth: 9, customInspect: false })],
  ['a number', () => Number(secret)],
  ['an error about it', () => inspect(new ChainkeepError('INTERNAL', `bad: ${secret}`, { cause: { secret } }), { depth: 9 })],
])('shows nothing in %s', (_name, show) => {
  expect(String(show())).not.toContain(VALUE);
});

it('says that it is one', () => {
  expect(`${secret}${JSON.stringify(secret)}${inspect(secret)}`).toBe(`${REDACTED}"${REDACTED}"${REDACTED}`);
});
