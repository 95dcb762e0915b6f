// The options of commands that serve disks over NBD: where they listen, TLS, and where what clients write is kept.

import { randomBytes } from 'node:crypto';
import { join, resolve } from 'node:path';
import { type Command, Option } from 'commander';
import type { ScratchPlace, ServingPlace } from '../app-interface.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import { parseSize } from './size-text.ts';

export interface ServingOptions {
  readonly listen?: string;
  readonly tlsCertificates?: string;
  readonly plaintext?: boolean;
  readonly scratch?: string;
  readonly scratchSize?: number;
}

/** `unsaid`: what each disk may take where no size is given. */
export function addServingOptions(command: Command, unsaid: string): Command {
  return command
    .option('--scratch <folder>', 'where what clients write is kept meanwhile (default: "scratch" in the home)')
    .addOption(new Option('--scratch-size <size>', `how much of it each disk may take, reserved at once (${unsaid})`).argParser(parseSize))
    .option('--listen <address>', 'unix:PATH or tcp:ADDR:PORT, port 0 for any (default: a unix socket in the home)')
    .option('--tls-certificates <folder>', 'server-cert.pem, server-key.pem, and ca-cert.pem, of which clients must have a certificate')
    .option('--plaintext', 'without TLS also where others can reach it');
}

/** `word`: the beginning of the socket's name, where none is given. */
export function servingPlace(options: ServingOptions, home: string, word: string): ServingPlace {
  return {
    listen: listenAt(options.listen ?? `unix:${join(home, `${word}-${randomBytes(4).toString('hex')}.sock`)}`),
    ...(options.tlsCertificates !== undefined && { tls_certificates: resolve(options.tlsCertificates) }),
    plaintext: options.plaintext ?? false,
  };
}

export function scratchPlace({ scratch, scratchSize }: ServingOptions, home: string): ScratchPlace {
  return { folder: resolve(scratch ?? join(home, 'scratch')), ...(scratchSize !== undefined && { bytes: scratchSize }) };
}

function listenAt(text: string): ServingPlace['listen'] {
  const [, path] = /^unix:(.+)$/s.exec(text) ?? [];
  if (path !== undefined) return { kind: 'unix', path: resolve(path) };
  const [, host = '', port = ''] = /^tcp:(?:\[?([^\][]+)\]?):(\d{1,5})$/.exec(text) ?? [];
  if (host !== '' && Number(port) <= 65_535) return { kind: 'tcp', host, port: Number(port) };
  throw new ChainkeepError('USAGE', `--listen takes unix:PATH or tcp:ADDR:PORT, not "${text}"`, {
    advice: 'for example --listen tcp:127.0.0.1:10809',
  });
}
