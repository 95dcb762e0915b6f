// The package as npm would install it: JavaScript built from the sources, in a node_modules folder beside its dependencies.

import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** Makes `folder`/node_modules/chainkeep and answers its path. */
export function installBuiltPackage(folder: string): string {
  const modules = join(folder, 'node_modules');
  const installed = join(modules, 'chainkeep');
  mkdirSync(installed, { recursive: true });
  for (const name of readdirSync('node_modules')) {
    if (!name.startsWith('.')) symlinkSync(resolve('node_modules', name), join(modules, name));
  }
  cpSync('package.json', join(installed, 'package.json'));
  const tsc = resolve('node_modules/typescript/bin/tsc');
  execFileSync(process.execPath, [tsc, '-p', 'tsconfig.build.json', '--outDir', join(installed, 'dist')], { timeout: 60_000 });
  return installed;
}
