// `node time-process.ts TURNS PROGRAM ARG…`: prints as JSON how many milliseconds each run of the program took, the first left out.
// A process of its own, because starting a child costs a process that holds gigabytes many times what it costs a small one.

import { execFileSync } from 'node:child_process';

const [turns, program, ...args] = process.argv.slice(2);
if (!program) throw new Error('time-process.ts TURNS PROGRAM ARG…');
const taken: number[] = [];
for (let turn = 0; turn <= Number(turns); turn += 1) {
  const began = performance.now();
  execFileSync(program, args);
  if (turn > 0) taken.push(performance.now() - began);
}
console.log(JSON.stringify(taken));
