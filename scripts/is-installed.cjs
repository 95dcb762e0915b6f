// Does node_modules hold what package-lock.json asks for? Exit code 0 when it does.
// Runs under any Node (also the machine's old one), so it must not use anything new.
'use strict';
const { existsSync, readFileSync } = require('node:fs');
const { join } = require('node:path');

const root = join(__dirname, '..');
const withDev = process.argv[2] === '--dev';
const packages = (file) => JSON.parse(readFileSync(join(root, file), 'utf8')).packages || {};

try {
  const wanted = packages('package-lock.json');
  const present = packages('node_modules/.package-lock.json');
  const missing = Object.keys(wanted).filter((path) => {
    if (path === '' || wanted[path].link) return false;
    if ((wanted[path].dev || wanted[path].devOptional) && !withDev) return false;
    if (present[path] && present[path].version === wanted[path].version && existsSync(join(root, path, 'package.json'))) return false;
    return !(wanted[path].optional && !present[path]); // optional ones are for other platforms
  });
  process.exitCode = missing.length === 0 ? 0 : 1;
} catch {
  process.exitCode = 1; // nothing installed, or a file cut short: install again
}
