#!/usr/bin/env node
// The program's entry: arguments in, exit code out. No logic here.

import { runCommandLine } from './cli/program.ts';

process.exitCode = await runCommandLine(process.argv.slice(2));
