import { describe, expect, it } from 'vitest';
import { parseAnswer, runChainkeep } from './run-chainkeep.ts';

const COMMANDS = [
  ...['repo', 'backup', 'list', 'show', 'chain', 'vms', 'verify', 'restore', 'export', 'delete', 'prune', 'hold', 'copy', 'repair'],
  ...['synthetic-full', 'copies', 'policy', 'jobs', 'image', 'receive', 'nbd', 'key', 'database', 'serve', 'worker', 'schedule'],
];

const WRONG: readonly { readonly args: readonly string[]; readonly says: string }[] = [
  { args: [], says: 'a command is missing' },
  { args: ['repo'], says: 'a command is missing' },
  { args: ['bakup'], says: "unknown command 'bakup'" },
  { args: ['list', '--bogus'], says: "unknown option '--bogus'" },
  { args: ['list', '--home'], says: 'argument missing' },
  { args: ['list', 'extra'], says: 'too many arguments' },
  { args: ['list', '--status', 'done'], says: 'Allowed choices are' },
  { args: ['show'], says: "missing required argument 'backup'" },
  { args: ['backup', 'disk.raw'], says: "required option '--vm <name>' not specified" },
  { args: ['backup', '--vm', 'web'], says: 'the SOURCE is missing' },
  { args: ['backup', '', '--vm', 'web'], says: 'the source is empty' },
  { args: ['backup', 'a', '--disk', '0=b', '--vm', 'web'], says: 'do not go together' },
  { args: ['backup', '--disk', '0=a', '--disk', '0=b', '--vm', 'web'], says: 'disk 0 is given twice' },
  { args: ['backup', '--disk', '1', '--vm', 'web'], says: 'takes key=value' },
  { args: ['backup', 'a', '--disk', '-1', '--vm', 'web'], says: '"-1" is not a whole number' },
  { args: ['backup', 'a', '--disk', '2147483648', '--vm', 'web'], says: 'too large for the number of a disk' },
  { args: ['backup', 'a', '--vm', 'web', '--cluster-size', '64 k'], says: '"64 k" is not a size' },
  { args: ['backup', 'a', '--vm', 'web', '--changed-extents', 'f'], says: 'belong together' },
  { args: ['verify'], says: 'say what to verify' },
  { args: ['verify', 'abc', '--repo', 'r'], says: 'say what to verify' },
  { args: ['verify', '--vm', 'web', '--repo', 'r'], says: 'say what to verify' },
  { args: ['chain', '--vm', 'web', '--disk', 'one'], says: '"one" is not a whole number' },
  { args: ['jobs', 'shw'], says: 'too many arguments' },
  { args: ['repo', 'add', 'r', '--type', 'ftp'], says: 'Allowed choices are' },
  { args: ['repo', 'add', 'r', '--set', 'novalue'], says: '--set takes key=value' },
  { args: ['repo', 'add', 'r', '--secret', 'key=hunter2'], says: 'must come from env:VAR or file:PATH' },
  { args: ['image', 'convert', 'a', 'b'], says: "required option '--format <format>' not specified" },
];

describe('help', () => {
  it('lists every command of the contract', async () => {
    const run = await runChainkeep(['--help']);
    expect(run.code).toBe(0);
    expect(run.stderr).toBe('');
    for (const command of COMMANDS) expect(run.stdout).toMatch(new RegExp(`^ {2}${command}\\b`, 'm'));
  });

  it.for(['backup --help', 'help backup', 'backup -h'])('"%s" shows the options of one command and those of all', async (line) => {
    const run = await runChainkeep(line.split(' '));
    expect(run.code).toBe(0);
    expect(run.stdout).toContain('Usage: chainkeep backup [options] [source]');
    expect(run.stdout).toContain('--since-change-id <id>');
    expect(run.stdout).toContain('--home <dir>');
  });
});

describe('version', () => {
  it('is that of package.json, alone on stdout', async () => {
    const run = await runChainkeep(['--version']);
    expect(run).toEqual({ code: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/), stderr: '' });
  });
});

describe('wrong usage', () => {
  it.concurrent.for(WRONG)('$args: $says', async ({ args, says }) => {
    const run = await runChainkeep(args);
    expect(run.code).toBe(2);
    expect(run.stdout).toBe('');
    const lines = run.stderr.split('\n').filter((line) => /^(error|advice): /.test(line));
    expect(lines[0]).toContain(says);
    expect(lines[1]).toMatch(/^advice: ./);
  });

  it('suggests the command that was meant', async () => {
    const run = await runChainkeep(['bakup']);
    expect(run.stderr).toContain('Did you mean backup?');
  });

  it.for([
    ['--json', 'list', '--bogus'],
    ['list', '--bogus', '--json'],
  ])('is told as JSON too: %s', async (args) => {
    const run = await runChainkeep(args);
    expect(run.code).toBe(2);
    expect(parseAnswer(run)).toMatchObject({ success: false, error: "unknown option '--bogus'", error_code: 'USAGE' });
  });

  it('shows what it does not know without letting it act on the terminal', async () => {
    const run = await runChainkeep(['list', '--\x1b[31mred\n\u{202e}gpj']);
    expect(run.code).toBe(2);
    expect(run.stderr).toContain("unknown option '--\\x1b[31mred\\n\\u{202e}gpj'");
    expect(run.stderr).not.toContain('\x1b');
  });
});
