// Names in images that want files of the host to be read: every command of the program under strace. A name found in an image is never opened,
// looked up or connected to, and what the canary says stands in no output.

import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Campaign } from './campaign.ts';
import { type Ended, User } from './user.ts';

const SONG = 'the canary sings 7f3a91';
const CLUSTER = 65_536;
const BACKING_FORMAT = 0xe2792aca;
const DATA_FILE = 0x44415441;

/** `$` is the absolute path of the canary, which lies beside the folder of the image; `link` is a link to it. */
const NAMES: readonly string[] = [
  ...['$', '../canary', './../canary', 'sub/../../canary', '..//canary', '/proc/self/root$', '//$', '/./$', '$/', '$\0', ' $', '~/canary'],
  ...[
    'file:$',
    'file://$',
    'file:///$',
    'file:../canary',
    'FILE:$',
    'raw:$',
    'host_device:$',
    'fat:$',
    'fat:rw:$',
    'blkdebug::$',
    'blkverify:$:$',
  ],
  'json:{"driver":"raw","file":{"driver":"file","filename":"$"}}',
  'json:{"driver":"host_device","filename":"$"}',
  'json:{"driver":"qcow2","file.filename":"$"}',
  'json:{"file":{"driver":"nbd","host":"127.0.0.1","port":"10809"}}',
  ...[
    'nbd://127.0.0.1:10809/x',
    'nbd:unix:$',
    'nbd+unix:///x?socket=$',
    'http://127.0.0.1:8/x',
    'https://127.0.0.1:8/x',
    'ftp://127.0.0.1/x',
  ],
  ...['ssh://127.0.0.1$', 'rbd:pool/x', 'iscsi://127.0.0.1/x/0', 'gluster://127.0.0.1/x', 'vvfat:$', 'link', '%2e%2e/canary'],
];

/** What is done with each name: a backing file of either format or of none that is said, or an external data file. */
const KINDS = ['qcow2', 'raw', 'unsaid', 'data file'] as const;
const CASES = NAMES.flatMap((name, index) => [
  { name, kind: KINDS[index % 3] ?? 'raw' },
  ...(index % 4 === 0 ? [{ name, kind: 'data file' as const }] : []),
]);

export const imageNames: Campaign = {
  name: 'image-names',
  about: 'no name that is found in an image is ever opened, looked up or connected to',
  small: 3,
  large: CASES.length,
  run: async (trial) => {
    for (const number of trial.cases(CASES.length)) {
      const place = join(trial.folder, String(number));
      try {
        trial.ran(number, await attackWithName(place, CASES[number] ?? { name: '$', kind: 'raw' }));
      } finally {
        rmSync(place, { recursive: true, force: true });
      }
    }
  },
};

async function attackWithName(place: string, { name, kind }: (typeof CASES)[number]): Promise<string[]> {
  const canary = join(place, 'canary');
  const folder = join(place, 'images');
  for (const path of [folder, join(place, 'repository')]) mkdirSync(path, { recursive: true });
  writeFileSync(canary, SONG.padEnd(CLUSTER));
  symlinkSync(canary, join(folder, 'link'));
  const image = join(folder, 'image.qcow2');
  const full = name.replaceAll('$', canary);
  writeFileSync(image, makeImage(full, kind));
  const user = new User(join(place, 'home'));
  await user.json('repo', 'add', 'r', '--path', join(place, 'repository'));
  const commands = [
    ['image', 'info', image],
    ['image', 'check', image],
    ['image', 'map', image],
    ['image', 'map', '--with-backing', image],
    ['image', 'convert', image, join(place, 'a'), '--format', 'raw'],
    ['image', 'convert', '--with-backing', image, join(place, 'b'), '--format', 'qcow2'],
    ['backup', image, '--vm', 'v', '--format', 'qcow2'],
    ['backup', image, '--vm', 'v', '--format', 'qcow2', '--with-backing'],
    ['backup', image, '--vm', 'as-raw', '--format', 'raw'],
    ['restore', 'latest', join(place, 'c'), '--vm', 'as-raw'],
    ['verify', '--vm', 'as-raw'],
  ];
  const faults: string[] = [];
  for (const [index, command] of commands.entries()) {
    const trace = join(place, `trace-${index}`);
    const before = ['strace', '-f', '-qq', '-s', '4096', '-e', 'trace=%file,%network', '-o', trace];
    const ended = await user.through(before, ...command);
    const found = judge(readFileSync(trace, 'utf8'), ended, { name: full, canary });
    faults.push(...found.map((fault) => `${JSON.stringify(name)} as ${kind}, ${command.slice(0, 2).join(' ')}: ${fault}`));
  }
  for (const file of ['a', 'b']) if (readIfThere(join(place, file)).includes(SONG)) faults.push(`the canary sings in ${file}`);
  return faults;
}

function judge(
  trace: string,
  { code, stdout, stderr }: Ended,
  { name, canary }: { readonly name: string; readonly canary: string },
): string[] {
  const faults: string[] = [];
  if (code !== 0 && code !== 1) faults.push(`ended with ${code}: ${stderr}`);
  if (/internal error/.test(stderr)) faults.push(stderr);
  if ((stdout + stderr).includes(SONG)) faults.push('the canary sings in the output');
  for (const line of trace.split('\n')) {
    const path = /"([^"]*)"/.exec(line)?.[1] ?? '';
    if (path === canary || path.endsWith('/canary') || (name.length > 4 && path.includes(name))) faults.push(`touched: ${line}`);
    if (/connect\(.*AF_INET/.test(line)) faults.push(`connected: ${line}`);
  }
  return faults;
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return '';
    throw error;
  }
}

/** An image of one cluster that is not allocated, and a name. */
function makeImage(name: string, kind: (typeof KINDS)[number]): Buffer {
  const bytes = Buffer.alloc(5 * CLUSTER);
  bytes.write('514649fb00000003', 0, 'hex');
  bytes.writeUInt32BE(16, 20);
  bytes.writeBigUInt64BE(BigInt(CLUSTER), 24);
  bytes.writeUInt32BE(1, 36);
  bytes.writeBigUInt64BE(BigInt(3 * CLUSTER), 40);
  bytes.writeBigUInt64BE(BigInt(CLUSTER), 48);
  bytes.writeUInt32BE(1, 56);
  bytes.writeUInt32BE(4, 96);
  bytes.writeUInt32BE(112, 100);
  bytes.writeBigUInt64BE(BigInt(2 * CLUSTER), CLUSTER);
  for (const cluster of [0, 1, 2, 3]) bytes.writeUInt16BE(1, 2 * CLUSTER + 2 * cluster);
  const said = Buffer.from(kind === 'data file' ? name : kind);
  if (kind !== 'unsaid') {
    bytes.writeUInt32BE(kind === 'data file' ? DATA_FILE : BACKING_FORMAT, 112);
    bytes.writeUInt32BE(said.length, 116);
    said.copy(bytes, 120);
  }
  if (kind === 'data file') bytes.writeBigUInt64BE(4n, 72);
  else {
    bytes.writeBigUInt64BE(1024n, 8);
    bytes.writeUInt32BE(Buffer.byteLength(name), 16);
    bytes.write(name, 1024);
  }
  return bytes;
}
