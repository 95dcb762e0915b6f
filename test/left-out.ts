// Decides which test files a run leaves out: long ones (`*.long.test.ts`, see `npm run test:all`), and files that use a tool
// this machine does not have. A file uses a tool when its text, or that of a test file it imports, holds the tool's name in quotes.

import { accessSync, constants, globSync, readFileSync } from 'node:fs';
import { delimiter, dirname, join, resolve } from 'node:path';

const TOOLS = [
  'qemu-img',
  'qemu-io',
  'qemu-nbd',
  'qemu-system-x86_64',
  'libvirtd',
  'virsh',
  'nbdkit',
  'nbdcopy',
  'nbdinfo',
  'openssl',
  'strace',
  'mkfs.ext4',
  'mkfs.xfs',
  'mariadbd',
  'faketime',
  'smbd',
  'smbnetfs',
  'linux.uml',
  'nbd-client',
  'rpc.nfsd',
  'mount.nfs',
  'mount.cifs',
];
const EXTRA_FOLDERS = ['/usr/sbin', '/sbin'];

function isOnThisMachine(tool: string): boolean {
  return [...(process.env.PATH ?? '').split(delimiter), ...EXTRA_FOLDERS].some((folder) => {
    try {
      accessSync(join(folder, tool), constants.X_OK);
      return true;
    } catch {
      return false; // not in this folder
    }
  });
}

function textWithImports(file: string, seen = new Set<string>()): string {
  if (seen.has(file)) return '';
  seen.add(file);
  const text = readFileSync(file, 'utf8');
  const imports = [...text.matchAll(/from '(\.[^']+\.ts)'/g)].map((match) => resolve(dirname(file), match[1] ?? ''));
  return (
    text +
    imports
      .filter((path) => path.includes('/test/') || path.includes('/prove/'))
      .map((path) => textWithImports(path, seen))
      .join('')
  );
}

/** Every test file that needs a missing tool, with the first tool it misses. */
export function filesWithoutTools(): Map<string, string> {
  const missing = TOOLS.filter((tool) => !isOnThisMachine(tool));
  const files = new Map<string, string>();
  if (missing.length === 0) return files;
  for (const file of globSync('test/**/*.test.ts')) {
    const text = textWithImports(resolve(file));
    const tool = missing.find((name) => new RegExp(`['"\`/]${name}['"\` ]`).test(text));
    if (tool) files.set(file, tool);
  }
  return files;
}

/** Is there a server to start, or one that was given? */
export function hasMariadb(): boolean {
  return (process.env.CHAINKEEP_TEST_MARIADB_URL ?? '') !== '' || (isOnThisMachine('mariadbd') && isOnThisMachine('mariadb-install-db'));
}

const CEPH = ['radosgw', 'radosgw-admin', 'ceph', 'ceph-mon', 'ceph-osd', 'ceph-authtool', 'monmaptool'];

/** Is there a server for S3 to start, or one that was given? */
export function hasRgw(): boolean {
  return (process.env.CHAINKEEP_TEST_S3_URL ?? '') !== '' || CEPH.every(isOnThisMachine);
}

/** What vitest's `exclude` gets. */
export function leftOutFiles(): string[] {
  const long = process.env.CHAINKEEP_TEST_ALL ? [] : ['test/**/*.long.test.ts'];
  return ['**/node_modules/**', ...long, ...filesWithoutTools().keys()];
}
