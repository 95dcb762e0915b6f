// A monitor that is none, or lies: one clear error, no wait without end, and no disk that is not one.

import { writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { isChainkeepError } from '../../src/plumbing/errors.ts';
import { openVm } from '../../src/source/open-vm.ts';
import { findGuestAgent } from '../../src/source/qmp/find-agent.ts';
import { openQmp } from '../../src/source/qmp/qmp-connection.ts';
import { peerFolder } from '../nbd/nbd-peers.ts';
import { scriptedSocket } from './scripted-socket.ts';

const sockets = peerFolder();
const GREETING = '{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}}\r\n';

/** A monitor that answers each command with what is given for it. */
function monitor(answers: Readonly<Record<string, unknown>>, greeting = GREETING) {
  const onLine = (line: string): string => {
    const { execute, id } = JSON.parse(line);
    const value = execute in answers ? answers[execute] : execute === 'query-iothreads' ? [] : {};
    return `{"event": "SOMETHING", "data": {}}\r\n${JSON.stringify({ return: value, id })}\r\n`;
  };
  return scriptedSocket(sockets('m'), onLine, greeting);
}

async function failure(path = sockets('m')): Promise<string> {
  try {
    const vm = await openVm({ address: `qmp:${path}`, isPlanOnly: true, onNotice: () => undefined, parentMark: async () => undefined });
    await vm.close();
    return 'opened';
  } catch (error) {
    return isChainkeepError(error) ? `${error.code} ${error.message}` : String(error);
  }
}

const disk = {
  device: 'd0',
  removable: false,
  inserted: { drv: 'raw', 'node-name': 'n0', file: 'f', ro: false, image: { 'virtual-size': 1_048_576 } },
};

describe('a socket that is no monitor', () => {
  it('that is not there, or where nobody listens, or that is no socket', async () => {
    expect(await failure(sockets('none'))).toMatch(/^CONNECTION_FAILED .*does not exist/);
    writeFileSync(sockets('file'), '');
    expect(await failure(sockets('file'))).toMatch(/^CONNECTION_FAILED /);
  });

  it.each([
    ['speaks another language', 'HTTP/1.1 400 Bad Request\r\n', /^HYPERVISOR_FAILED .*no JSON/],
    ['greets with a list', '[]\n', /^HYPERVISOR_FAILED /],
    ['greets as something else', '{"hello": 1}\n', /^HYPERVISOR_FAILED .*not asked/],
    ['greets without a version', '{"QMP": {}}\n', /^HYPERVISOR_FAILED .*no object/],
    ['is too old', GREETING.replace('"minor": 2', '"minor": 1'), /^SOURCE_INVALID .*7\.1/],
  ])('that %s', async (_what, greeting, expected) => {
    await monitor({}, greeting);
    expect(await failure()).toMatch(expected);
  });

  it('that sends a line without an end', async () => {
    const endless = Buffer.alloc(2 ** 20, 'x').toString();
    await scriptedSocket(
      sockets('m'),
      (_line, socket) => {
        for (let sent = 0; sent < 40; sent += 1) socket.write(endless);
        return undefined;
      },
      GREETING,
    );
    expect(await failure()).toMatch(/^HYPERVISOR_FAILED .*bytes/);
  });

  it('that goes away in the middle of an answer', async () => {
    await scriptedSocket(
      sockets('m'),
      (_line, socket) => {
        socket.end('{"ret');
        return undefined;
      },
      GREETING,
    );
    expect(await failure()).toMatch(/^CONNECTION_FAILED .*closed/);
  });

  it('that answers what was not asked, or refuses without a reason', async () => {
    await scriptedSocket(sockets('m'), () => '{"return": {}, "id": "other"}\n', GREETING);
    expect(await failure()).toMatch(/^HYPERVISOR_FAILED .*not asked/);
    await scriptedSocket(sockets('m'), (line) => `${JSON.stringify({ error: { desc: 5 }, id: JSON.parse(line).id })}\n`, GREETING);
    expect(await failure()).toMatch(/^HYPERVISOR_FAILED .*"class"/);
  });

  it('whose caller gives up while it is silent', async () => {
    await scriptedSocket(sockets('m'), () => undefined);
    const controller = new AbortController();
    const opening = openVm({
      address: `qmp:${sockets('m')}`,
      isPlanOnly: true,
      onNotice: () => undefined,
      parentMark: async () => undefined,
      signal: controller.signal,
    });
    setTimeout(() => controller.abort(), 50);
    await expect(opening).rejects.toSatisfy((error) => isChainkeepError(error, 'CANCELLED'));
  });
});

describe('a machine whose disks are listed oddly', () => {
  it.each([
    ['no disk at all', [], /^SOURCE_INVALID .*no disk/],
    [
      'nothing but what is removable, empty or read-only',
      [
        { ...disk, removable: true },
        { device: 'c', removable: false },
        { ...disk, inserted: { ...disk.inserted, ro: true } },
      ],
      /^SOURCE_INVALID .*no disk/,
    ],
    ['no list', {}, /^HYPERVISOR_FAILED .*no list/],
    ['a disk without an image', [{ ...disk, inserted: { ...disk.inserted, image: undefined } }], /^HYPERVISOR_FAILED .*no object/],
    [
      'a disk without a size',
      [{ ...disk, inserted: { ...disk.inserted, image: { 'virtual-size': -1 } } }],
      /^HYPERVISOR_FAILED .*virtual-size/,
    ],
    ['an empty disk', [{ ...disk, inserted: { ...disk.inserted, image: { 'virtual-size': 0 } } }], /^HYPERVISOR_FAILED .*no size/],
    [
      'a disk that another job works on',
      [{ ...disk, inserted: { ...disk.inserted, drv: 'mirror_top' } }],
      /^BACKUP_IN_PROGRESS .*another job/,
    ],
    ['one good disk', [disk], /^opened$/],
  ])('%s', async (_what, devices, expected) => {
    await monitor({ 'query-block': devices });
    expect(await failure()).toMatch(expected);
  });
});

describe('the guest agent of a machine', () => {
  const ports = [
    { name: 'disk', type: 'child<virtio-blk-pci>' },
    { name: 'console', type: 'child<virtserialport>' },
    { name: 'agent', type: 'child<virtserialport>' },
  ];

  async function found(device: object): Promise<string | undefined> {
    const answer = ({ execute, arguments: given }: { execute: string; arguments?: Readonly<Record<string, string>> }): unknown => {
      if (execute === 'qom-list') return given?.path === '/machine/peripheral' ? ports : [];
      if (execute === 'query-chardev') return [{ label: 'tty', filename: 'pty', 'frontend-open': true }, device];
      if (execute !== 'qom-get') return {};
      const isAgent = given?.path === '/machine/peripheral/agent';
      return given?.property === 'chardev' ? 'qga' : isAgent ? 'org.qemu.guest_agent.0' : 'org.example.other';
    };
    const onLine = (line: string): string => `${JSON.stringify({ return: answer(JSON.parse(line)), id: JSON.parse(line).id })}\n`;
    const { path } = await scriptedSocket(sockets('m'), onLine, GREETING);
    const qmp = await openQmp(path);
    return findGuestAgent(qmp).finally(() => qmp.close());
  }

  it('is behind the socket of the port with its name, where somebody in the guest has opened it', async () => {
    const device = { label: 'qga', filename: 'disconnected:unix:/run/vm 1/qga.sock,server=on', 'frontend-open': true };
    expect(await found(device)).toBe('/run/vm 1/qga.sock');
    expect(await found({ ...device, 'frontend-open': false })).toBeUndefined();
    expect(await found({ ...device, filename: 'unix:/run/qga.sock,server=on <-> /x' })).toBe('/run/qga.sock');
    expect(await found({ ...device, filename: 'tcp:127.0.0.1:4' })).toBeUndefined();
    expect(await found({ ...device, label: 'another' })).toBeUndefined();
  });
});
