// Writes a package.json and a package-lock.json that hold one package as our own package-lock.json pins it: pin-package.cjs NAME FOLDER.
// Runs under the machine's old Node, so it must not use anything new.
'use strict';
const { readFileSync, writeFileSync } = require('node:fs');
const { join } = require('node:path');

const [name, folder] = process.argv.slice(2);
const path = `node_modules/${name}`;
const pinned = JSON.parse(readFileSync(join(__dirname, '..', 'package-lock.json'), 'utf8')).packages[path];
const root = { name: 'bootstrap', version: '0.0.0', dependencies: { [name]: pinned.version } };
const lock = { name: root.name, version: root.version, lockfileVersion: 3, requires: true };
const entry = Object.assign({}, pinned, { optional: undefined });
writeFileSync(join(folder, 'package.json'), JSON.stringify(root));
writeFileSync(join(folder, 'package-lock.json'), JSON.stringify(Object.assign(lock, { packages: { '': root, [path]: entry } })));
