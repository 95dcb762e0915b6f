// Preloaded into programs whose coverage is measured (see child-coverage.ts): gives Node the sources that strip-sources.ts has stripped of their types.
// Such a program cannot use the compile cache, and without it Node would strip every file anew, at every start: half the time of a short command.
// JavaScript, because it would be stripped at every start itself.

import { readFileSync } from 'node:fs';
import module from 'node:module';

const SOURCES = new URL('../src/', import.meta.url).href;
const STRIPPED = new URL('../.compiled/stripped/', import.meta.url);

// An older Node of the machine, which an installation may begin with, knows no hooks and runs none of our sources.
module.registerHooks?.({
  load(url, context, nextLoad) {
    if (!url.startsWith(SOURCES) || !url.endsWith('.ts')) return nextLoad(url, context);
    return { format: 'module', source: readFileSync(new URL(url.slice(SOURCES.length), STRIPPED)), shortCircuit: true };
  },
});
