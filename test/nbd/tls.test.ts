// TLS on both sides, with our own and with the others': who cannot prove who he is gets nothing, and nothing falls back to plain bytes.

import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls, getCACertificates, setDefaultCACertificates } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readNbdInfo } from '../../src/nbd/client/nbd-info.ts';
import { openNbdReader } from '../../src/nbd/client/nbd-reader.ts';
import { encodeInfoRequest } from '../../src/nbd/protocol/export-info.ts';
import { encodeContextQuery } from '../../src/nbd/protocol/meta-context.ts';
import { encodeOption, OPTION } from '../../src/nbd/protocol/option.ts';
import { encodeOptionReply, REPLY } from '../../src/nbd/protocol/option-reply.ts';
import { type NbdServer, openNbdServer } from '../../src/nbd/server/nbd-server.ts';
import type { ServerTls } from '../../src/nbd/server/server-tls.ts';
import { Secret } from '../../src/plumbing/secret.ts';
import { peerFolder, runTool, startServer } from './nbd-peers.ts';
import { RawClient } from './raw-client.ts';
import { openScriptedServer } from './scripted-server.ts';
import { memoryDisk } from './served-disk.ts';
import { makeTlsMaterial } from './tls-material.ts';

const scratch = peerFolder();
const tls = makeTlsMaterial(scratch('pki'));
const other = makeTlsMaterial(scratch('other'));
const disk = memoryDisk(1 << 20);
const servers: NbdServer[] = [];

async function serve(name: string, how?: ServerTls): Promise<NbdServer> {
  const server = await openNbdServer({
    listen: { kind: 'unix', path: scratch(name) },
    exports: [{ name: 'disk', disk }],
    ...(how && { tls: how }),
  });
  servers.push(server);
  return server;
}

const x509 = (clients: boolean): ServerTls => ({
  kind: 'x509',
  certificate: tls.read('server-cert.pem'),
  key: new Secret(tls.read('server-key.pem').toString()),
  ...(clients && { clientCa: tls.read('ca-cert.pem') }),
});
const psk: ServerTls = { kind: 'psk', keys: new Map([['alice', tls.pskKey]]) };
const address = (socket: string, parameters: string, user = ''): string =>
  `nbds+unix://${user}/disk?socket=${scratch(socket)}${parameters}`;

beforeAll(async () => {
  await serve('open', x509(false));
  await serve('closed', x509(true));
  await serve('psk', psk);
  await serve('plain');
});
afterAll(async () => {
  await Promise.all(servers.map((server) => server.close()));
});

async function reads(place: string): Promise<void> {
  const reader = await openNbdReader(place, { reconnectWithin: 0, connectWithin: 10_000 });
  const bytes = Buffer.alloc(disk.size);
  await reader.read(bytes, 0);
  expect(bytes.equals(disk.bytes)).toBe(true);
  await reader.close();
}

const certificates = `&tls-certificates=${tls.folder}`;

describe('our client at our server', () => {
  it.each([
    ['with a certificate that the CA knows', 'open', certificates, ''],
    ['by another name of the certificate', 'open', `${certificates}&tls-hostname=nbd.example`, ''],
    ['with a certificate of its own', 'closed', certificates, ''],
    ['with a key of both', 'psk', `&tls-psk-file=${tls.pskFile}`, 'alice@'],
  ])('reads %s', (_name, socket, parameters, user) => reads(address(socket, parameters, user)));

  it.each([
    ['whose CA is another', 'open', `&tls-certificates=${other.folder}`, 'CONNECTION_FAILED'],
    ['whose certificate has another name', 'open', `${certificates}&tls-hostname=other.example`, 'CONNECTION_FAILED'],
    ['that this machine does not trust', 'open', '', 'CONNECTION_FAILED'],
    ['that does not know our CA', 'closed', `&tls-certificates=${other.folder}`, 'CONNECTION_FAILED'],
    ['that has another key', 'psk', `&tls-psk-file=${tls.pskFile}`, 'CONNECTION_FAILED'],
    ['that wants a key and gets a certificate', 'psk', certificates, 'CONNECTION_FAILED'],
    ['that wants a certificate and gets a key', 'open', `&tls-psk-file=${tls.pskFile}`, 'CONNECTION_FAILED'],
    ['that has no TLS', 'plain', certificates, 'EXPORT_REFUSED'],
  ])('gets nothing from a server %s', async (_name, socket, parameters, code) => {
    // The first line of the key file is bob's, whom the server does not know.
    await expect(reads(address(socket, parameters))).rejects.toMatchObject({ code });
  });

  it('gets nothing by its key from a server that shows a certificate instead, also one that this machine trusts', async () => {
    const trusted = getCACertificates('default');
    setDefaultCACertificates([...trusted, tls.read('ca-cert.pem').toString()]);
    try {
      await reads(address('open', ''));
      await expect(reads(address('open', `&tls-psk-file=${tls.pskFile}`))).rejects.toMatchObject({ code: 'CONNECTION_FAILED' });
    } finally {
      setDefaultCACertificates(trusted);
    }
  });

  it('gets nothing without TLS where it is demanded', async () => {
    for (const socket of ['open', 'closed', 'psk'])
      await expect(reads(`nbd+unix:///disk?socket=${scratch(socket)}`)).rejects.toMatchObject({ code: 'EXPORT_REFUSED' });
  });

  it('gets nothing without a certificate where one is demanded', async () => {
    const credentials = { kind: 'x509', ca: tls.read('ca-cert.pem') } as const;
    const attempt = openNbdReader(address('closed', ''), { tls: credentials, reconnectWithin: 0, connectWithin: 10_000 });
    await expect(attempt).rejects.toMatchObject({ code: 'CONNECTION_FAILED' });
  });
});

describe('a key', () => {
  it.each(['abracadabra, a long pass phrase', 'ab', '8d1f2a3b4c5d6e7f8091a2b3c4d5e6f', ''])(
    "that is no key is refused, not cut to what can be read of it: '%s'",
    async (text) => {
      const key = new Secret(text);
      await expect(serve('never', { kind: 'psk', keys: new Map([['alice', key]]) })).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
      const credentials = { kind: 'psk', identity: 'alice', key } as const;
      await expect(openNbdReader(address('psk', ''), { tls: credentials })).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
      const file = scratch('short.psk');
      writeFileSync(file, `alice:${text}\n`);
      await expect(readNbdInfo(address('psk', `&tls-psk-file=${file}`))).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    },
  );
});

describe('a server that goes away in the middle of the handshake', () => {
  it('may be asked again, one that cannot be trusted may not', async () => {
    const leaving = await openScriptedServer(scratch('leaving'), async (peer) => {
      await peer.greet();
      await peer.option();
      peer.send(encodeOptionReply(OPTION.STARTTLS, REPLY.ACK));
      await peer.take(1);
      peer.socket.destroy();
    });
    const place = leaving.address.replace('nbd+', 'nbds+') + certificates;
    await expect(readNbdInfo(place)).rejects.toMatchObject({ code: 'CONNECTION_FAILED', retryable: true });
    await leaving.close();
    await expect(reads(address('open', ''))).rejects.toMatchObject({ code: 'CONNECTION_FAILED', retryable: false });
  });
});

describe('a server that demands TLS', () => {
  it('answers nothing else before', async () => {
    const client = await RawClient.open({ kind: 'unix', path: scratch('open') });
    await client.greet();
    const queries = encodeContextQuery({ exportName: 'disk', queries: [] });
    for (const [option, data] of [
      [OPTION.LIST, undefined],
      [OPTION.INFO, encodeInfoRequest({ name: 'disk', wanted: [] })],
      [OPTION.GO, encodeInfoRequest({ name: 'disk', wanted: [] })],
      [OPTION.GO, encodeInfoRequest({ name: 'none', wanted: [] })],
      [OPTION.STRUCTURED_REPLY, undefined],
      [OPTION.EXTENDED_HEADERS, undefined],
      [OPTION.SET_META_CONTEXT, queries],
      [99, undefined],
    ] as const)
      expect((await client.ask(option, data)).kind).toBe(REPLY.ERR_TLS_REQD);
    client.send(encodeOption(OPTION.EXPORT_NAME, Buffer.from('disk')));
    await client.closed();
  });

  it('takes no plain bytes for secure ones', async () => {
    const injected = [encodeOption(OPTION.STRUCTURED_REPLY), encodeOption(OPTION.ABORT), Buffer.alloc(1)];
    for (const bytes of injected) {
      const client = await RawClient.open({ kind: 'unix', path: scratch('open') });
      await client.greet();
      client.send(Buffer.concat([encodeOption(OPTION.STARTTLS), bytes]));
      await client.closed();
    }
  });

  it.each([
    ['TLSv1.2', true],
    ['TLSv1.1', false],
    ['TLSv1', false],
  ] as const)('and %s: %s', async (version, works) => {
    const socket = connect({ path: scratch('open') });
    const answer = new Promise<Buffer>((resolve) => socket.once('data', resolve));
    await answer;
    socket.write(Buffer.concat([Buffer.from([0, 0, 0, 3]), encodeOption(OPTION.STARTTLS)]));
    await new Promise((resolve) => socket.once('data', resolve));
    const secure = connectTls({
      socket,
      ca: tls.read('ca-cert.pem'),
      servername: 'localhost',
      minVersion: version,
      maxVersion: version,
      ciphers: 'DEFAULT@SECLEVEL=0',
    });
    const outcome = await new Promise((resolve) => {
      secure.once('secureConnect', () => resolve(true));
      secure.once('error', () => resolve(false));
      secure.once('close', () => resolve(false));
    });
    expect(outcome).toBe(works);
    secure.destroy();
  });
});

describe('with others', () => {
  it.each([
    ['open', certificates, true],
    ['closed', certificates, true],
    ['closed', `&tls-certificates=${other.folder}`, false],
    ['psk', `&tls-psk-file=${tls.pskFile}`, true],
  ])('nbdinfo at our server %s%s', async (socket, parameters, works) => {
    const user = socket === 'psk' ? 'alice@' : '';
    const run = await runTool('nbdinfo', '--json', address(socket, parameters, user));
    expect(run.code === 0, run.stderr).toBe(works);
    if (works) expect(JSON.parse(run.stdout)).toMatchObject({ TLS: true, exports: [{ 'export-size': 1 << 20 }] });
  });

  it('nbdkit with certificates, ours among them', async () => {
    const peer = await startServer(scratch('kit'), 'nbdkit', [
      '--tls=require',
      `--tls-certificates=${tls.folder}`,
      '--tls-verify-peer',
      'pattern',
      '1M',
    ]);
    const secure = (parameters: string): string => `nbds+unix:///?socket=${peer.socket}${parameters}`;
    expect(await readNbdInfo(secure(certificates))).toMatchObject({ tls: true, facts: { size: 1 << 20 } });
    await expect(readNbdInfo(secure(`&tls-certificates=${other.folder}`))).rejects.toMatchObject({ code: 'CONNECTION_FAILED' });
    await expect(readNbdInfo(peer.address())).rejects.toMatchObject({ code: 'EXPORT_REFUSED' });
    await peer.stop();
  });

  it('nbdkit with a key', async () => {
    const peer = await startServer(scratch('kit-psk'), 'nbdkit', ['--tls=require', `--tls-psk=${tls.pskFile}`, 'pattern', '1M']);
    expect(await readNbdInfo(`nbds+unix:///?socket=${peer.socket}&tls-psk-file=${tls.pskFile}`)).toMatchObject({ tls: true });
    await expect(readNbdInfo(`nbds+unix:///?socket=${peer.socket}&tls-psk-file=${join(scratch('pki'), 'none')}`)).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
    });
    await peer.stop();
  });

  it('qemu-img at our server', async () => {
    const server = await openNbdServer({
      listen: { kind: 'tcp', host: '127.0.0.1', port: 0 },
      exports: [{ name: 'disk', disk }],
      tls: x509(true),
    });
    servers.push(server);
    const port = server.address.kind === 'tcp' ? server.address.port : 0;
    const image = (folder: string): string[] => [
      '--object',
      `tls-creds-x509,id=tls0,endpoint=client,dir=${folder}`,
      '--image-opts',
      `driver=nbd,host=127.0.0.1,port=${port},export=disk,tls-creds=tls0`,
    ];
    expect((await runTool('qemu-img', 'info', ...image(tls.folder))).stdout).toContain('1 MiB');
    expect((await runTool('qemu-img', 'info', ...image(other.folder))).code).not.toBe(0);
    await reads(`nbds://127.0.0.1:${port}/disk?tls-certificates=${tls.folder}`);
    await reads(`nbds://localhost:${port}/disk?tls-certificates=${tls.folder}`);
  });
});
