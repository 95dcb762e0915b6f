// The parts of mounted shares that need no share: plan, mount table, calls of mount(8), frames on a socket, and who counts as silent.

import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Secret } from '../../src/plumbing/secret.ts';
import { FrameReader, sendFrame } from '../../src/store/mounted/frames.ts';
import { planMount } from '../../src/store/mounted/mount-plan.ts';
import { parseMountTable } from '../../src/store/mounted/mount-table.ts';
import { runMount, runUnmount } from '../../src/store/mounted/run-mount.ts';
import { SilenceWatch } from '../../src/store/mounted/silence-watch.ts';
import { parseStoreConfig } from '../../src/store/parse-config.ts';
import { codeOf } from '../../src/store/testing/store-probe.ts';

const NFS = { server: 'nas', export_path: '/backups' };
const CIFS = { server: 'nas', share_name: 'backup/vms', username: 'keeper', password: new Secret('hush') };

describe('the plan of a mount', () => {
  it('is made of the settings, safe options first and those of the user last', () => {
    const { plan } = planMount('nfs', { ...NFS, nfs_version: '3', mount_options: 'soft,timeo=100' }, '/home');
    expect(plan.expected).toEqual({ types: ['nfs', 'nfs4'], source: 'nas:/backups' });
    expect(plan.mount?.options).toMatch(/^vers=3,nolock,nosuid,nodev,noexec,.*,soft,timeo=100$/);
    expect(plan.mountPoint).toMatch(/^\/home\/mounts\/nas-backups-[0-9a-f]{12}\/share$/);
    expect(plan).toMatchObject({ ownFolder: true, timeLimit: 60_000 });
    expect(planMount('nfs', { ...NFS, server: 'fd00::1' }, '/home').plan.expected.source).toBe('[fd00::1]:/backups');
  });

  it('has another folder for other options, and the place that was given', () => {
    const folders = ['a', 'b'].map((mount_options) => planMount('nfs', { ...NFS, mount_options }, '/home').plan.mountPoint);
    expect(new Set(folders).size).toBe(2);
    expect(planMount('nfs', { ...NFS, mount_point: '/mnt/nas/' }, '/home').plan).toMatchObject({
      mountPoint: '/mnt/nas',
      ownFolder: false,
    });
  });

  it('keeps the password apart from everything that is printed or passed as an argument', () => {
    const { plan, password } = planMount('cifs', { ...CIFS, domain: 'corp' }, '/home');
    expect(plan.mount?.options).toMatch(/^username=keeper,domain=corp,/);
    expect(JSON.stringify(plan)).not.toContain('hush');
    expect(password?.reveal()).toBe('hush');
    expect(() => planMount('cifs', { ...CIFS, password: new Secret('a\nb') }, '/home')).toThrow(/line break/);
  });

  it('of a share that only the system mounts mounts nothing', () => {
    const { plan } = planMount('cifs', { ...CIFS, mount_point: '/mnt/x', system_mount: 'fuse.smbnetfs some thing' }, '/home');
    expect(plan).toMatchObject({ expected: { types: ['fuse.smbnetfs'], source: 'some thing' }, ownFolder: false });
    expect(plan.mount).toBeUndefined();
  });

  it('needs settings that make sense', async () => {
    for (const wrong of [
      { system_mount: 'nfs4 nas:/backups' },
      { system_mount: 'nfs4', mount_point: '/mnt' },
      { time_limit_seconds: 4 },
      { mount_point: 'mnt' },
      { mount_options: 'password=x' },
    ])
      expect(await codeOf(parseStoreConfig('nfs', { config: { ...NFS, ...wrong } })), JSON.stringify(wrong)).toBe('CONFIG_INVALID');
    for (const username of ['a,uid=0', 'a=b', ''])
      expect(await codeOf(parseStoreConfig('smb', { config: { ...CIFS, password: 'x', username } })), username).toBe('CONFIG_INVALID');
    const { config } = await parseStoreConfig('nfs', { settings: { ...NFS, time_limit_seconds: '30', nfs_version: '3' } });
    expect(config).toMatchObject({ time_limit_seconds: 30, nfs_version: '3', mount_options: '' });
  });
});

it('the mount table is read with blanks, backslashes and optional fields', () => {
  const text = [
    '26 22 0:24 / /mnt/n3 rw,relatime shared:1 master:2 - nfs4 127.0.0.1:/mnt/srv rw,vers=4.2',
    '27 26 0:25 /sub\\040folder /mnt/a\\134b rw - cifs //nas/back\\040ups rw,username=x - y',
    '',
  ].join('\n');
  expect(parseMountTable(text)).toEqual([
    { id: 26, parentId: 22, root: '/', mountPoint: '/mnt/n3', type: 'nfs4', source: '127.0.0.1:/mnt/srv' },
    { id: 27, parentId: 26, root: '/sub folder', mountPoint: '/mnt/a\\b', type: 'cifs', source: '//nas/back ups' },
  ]);
});

describe('mount(8)', () => {
  let folder: string;
  const path = process.env.PATH;
  const call = { type: 'cifs', source: '//nas/x', mountPoint: '/mnt/x', options: 'username=u', limit: 3000 } as const;
  const program = (name: string, script: string): void => {
    writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`);
    chmodSync(join(folder, name), 0o755);
  };
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'chainkeep-mount-'));
    process.env.PATH = `${folder}:${path}`;
  });
  afterEach(() => {
    process.env.PATH = path;
    rmSync(folder, { recursive: true });
  });

  it('gets the password through a pipe: not as an argument, not in the environment', async () => {
    program('mount', `cat <&$PASSWD_FD >${folder}/piped; echo "$@" >${folder}/seen; env >>${folder}/seen`);
    await runMount({ ...call, password: new Secret('hush, hush') });
    expect(readFileSync(join(folder, 'piped'), 'utf8')).toBe('hush, hush');
    const seen = readFileSync(join(folder, 'seen'), 'utf8');
    expect(seen).toContain('-t cifs -o username=u -- //nas/x /mnt/x');
    expect(seen).not.toContain('hush');
  });

  it.each([
    ['mount error(113): could not connect to 10.0.0.9', 'REPOSITORY_OFFLINE'],
    ['mount.nfs: Connection refused', 'REPOSITORY_OFFLINE'],
    ['mount.nfs: requested NFS version or transport protocol is not supported', 'REPOSITORY_OFFLINE'],
    ['mount error(13): Permission denied', 'MOUNT_FAILED'],
    ['mount: only root can do that', 'MOUNT_FAILED'],
    ['', 'MOUNT_FAILED'],
  ])('%j is %s', async (said, code) => {
    program('mount', `echo '${said}' >&2; echo 'Refer to the manual page' >&2; exit 32`);
    const error: unknown = await runMount({ ...call, password: undefined }).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code, message: expect.stringContaining(said === '' ? 'ended with 32' : said) });
  });

  it('that repeats the password does not get it into a message', async () => {
    program('mount', 'echo "bad option: $(cat <&3)" >&2; exit 1');
    const error: unknown = await runMount({ ...call, password: new Secret('hush') }).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ message: expect.stringContaining('bad option: [secret]') });
  });

  it('that hangs is given up', async () => {
    program('mount', 'exec sleep 60');
    const start = Date.now();
    expect(await codeOf(runMount({ ...call, limit: 300, password: undefined }))).toBe('REPOSITORY_OFFLINE');
    expect(Date.now() - start).toBeLessThan(30_000);
  });

  it('umount of what is in use says so', async () => {
    program('umount', 'echo busy >&2; exit 32');
    expect(await runUnmount('/mnt/x', 3000)).toBe(false);
  });
});

describe('frames', () => {
  it('arrive as they were sent, however they are cut on the way', () => {
    const pieces: Buffer[] = [];
    const socket = { cork: () => undefined, uncork: () => undefined, write: (bytes: Uint8Array) => pieces.push(Buffer.from(bytes)) };
    sendFrame(socket, 7, { op: 'stat', name: 'ä' });
    sendFrame(socket, 8, { op: 'write' }, [Buffer.from('one'), Buffer.alloc(0), Buffer.from('two')]);
    sendFrame(socket, 9, null, [Buffer.alloc(100_000, 'x')]);
    const bytes = Buffer.concat(pieces);
    for (const size of [1, 3, 13, 4096, bytes.length]) {
      const taken: (readonly [number, string, string])[] = [];
      const reader = new FrameReader({
        place: (_, length) => Buffer.alloc(length),
        take: (id, text, body) => taken.push([id, text, Buffer.from(body).toString()]),
      });
      for (let at = 0; at < bytes.length; at += size) reader.feed(bytes.subarray(at, at + size));
      expect(taken, `pieces of ${size}`).toEqual([
        [7, '{"op":"stat","name":"ä"}', ''],
        [8, '{"op":"write"}', 'onetwo'],
        [9, 'null', 'x'.repeat(100_000)],
      ]);
    }
  });
});

describe('silence', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it('is the oldest question without an answer, not a slow stream of answers', () => {
    let silent = 0;
    const watch = new SilenceWatch(12_000, () => {
      silent += 1;
    });
    for (let id = 0; id < 100; id += 1) watch.asked(id);
    for (let id = 0; id < 99; id += 1) {
      vi.advanceTimersByTime(9000);
      watch.answered(id);
    }
    expect(silent).toBe(0);
    vi.advanceTimersByTime(11_000);
    expect(silent).toBe(0);
    vi.advanceTimersByTime(3000);
    expect(silent).toBe(1);
  });

  it('is told while younger questions are answered', () => {
    const told = vi.fn();
    const watch = new SilenceWatch(12_000, told);
    watch.asked(0);
    for (let id = 1; id < 20; id += 1) {
      watch.asked(id);
      vi.advanceTimersByTime(1000);
      watch.answered(id);
    }
    expect(told).toHaveBeenCalledTimes(1);
  });

  it('is not what a stopped machine has not heard', () => {
    const told = vi.fn();
    const watch = new SilenceWatch(12_000, told);
    watch.asked(1);
    vi.setSystemTime(Date.now() + 3600_000); // a timer that was due many times fires once
    vi.advanceTimersByTime(1000);
    watch.answered(1);
    expect(told).not.toHaveBeenCalled();
  });
});

it('a socket carries frames both ways', async () => {
  const server = createServer((socket) => {
    const reader = new FrameReader({
      place: (_, length) => Buffer.alloc(length),
      take: (id, text, body) => sendFrame(socket, id, JSON.parse(text), [body]),
    });
    socket.on('data', (chunk: Buffer) => reader.feed(chunk));
  });
  const folder = mkdtempSync(join(tmpdir(), 'chainkeep-frames-'));
  server.listen(join(folder, 's'));
  const client = connect(join(folder, 's'));
  const got: number[] = [];
  const reader = new FrameReader({ place: (_, length) => Buffer.alloc(length), take: (id, _, body) => got.push(id + body.length) });
  client.on('data', (chunk: Buffer) => reader.feed(chunk));
  for (let id = 0; id < 20; id += 1) sendFrame(client, id, {}, [Buffer.alloc(id * 50_000)]);
  while (got.length < 20) await sleep(5);
  expect(got).toEqual(Array.from({ length: 20 }, (_, id) => id + id * 50_000));
  client.destroy();
  server.close();
  rmSync(folder, { recursive: true });
});
