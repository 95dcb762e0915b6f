// Commands that are part of the contract and not built yet, as data.

import type { Command } from 'commander';
import { type PlannedCommand, plannedCommand } from '../planned-command.ts';

const DRY_RUN = { '--dry-run': 'only say what would be done' };
const RETENTION = {
  '--keep-last <n>': 'the newest N',
  '--keep-hourly <n>': 'the newest of each of N hours',
  '--keep-daily <n>': 'the newest of each of N days',
  '--keep-weekly <n>': 'the newest of each of N weeks',
  '--keep-monthly <n>': 'the newest of each of N months',
  '--keep-yearly <n>': 'the newest of each of N years',
  '--keep-days <n>': 'everything younger than N days',
};

const PLANNED: readonly PlannedCommand[] = [
  {
    usage: 'prune',
    description: 'thin out restore points',
    options: { '--vm <name>': 'of this VM', '--repo <name>': 'in this repository', ...RETENTION, ...DRY_RUN },
  },
  {
    usage: 'copy <backup>',
    description: 'copy a restore point to another repository',
    options: { '--to <repo>': 'where to', '--no-verify': 'do not read it back', '--flatten': 'as one full backup', ...DRY_RUN },
  },
  { usage: 'repair <backup>', description: 'replace damaged parts from a copy' },
  { usage: 'synthetic-full', description: 'make a full backup out of a chain', options: { '--vm <name>': 'of this VM' } },
  {
    usage: 'copies',
    description: 'copies in other repositories',
    options: { '--backup <backup>': 'of this backup', '--status <status>': 'with this status' },
  },
  {
    usage: 'policy',
    description: 'what is kept, for how long, and where copies go',
    commands: [
      { usage: 'add <name>', description: 'make a policy' },
      { usage: 'list', description: 'all policies' },
      { usage: 'show <name>', description: 'one policy' },
      { usage: 'update <name>', description: 'change a policy' },
      { usage: 'remove <name>', description: 'remove a policy' },
      { usage: 'assign <name>', description: 'put VMs under a policy' },
      { usage: 'preview <name>', description: 'what it would do now' },
      { usage: 'run <name>', description: 'run it now' },
      {
        usage: 'rule',
        description: 'copy rules of a policy',
        commands: [
          { usage: 'add <policy>', description: 'add a copy rule' },
          { usage: 'update <id>', description: 'change a copy rule' },
          { usage: 'remove <id>', description: 'remove a copy rule' },
        ],
      },
    ],
  },
  { usage: 'serve', description: 'run the server' },
  { usage: 'worker', description: 'run a worker' },
  { usage: 'schedule', description: 'what is due', commands: [{ usage: 'run', description: 'run what is due now' }] },
];

export function plannedCommands(): Command[] {
  return PLANNED.map((plan) => plannedCommand(plan));
}
