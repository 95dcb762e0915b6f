// The command line as a whole.
export async function runCommandLine(args: readonly string[]): Promise<number> {
  if (args.includes('--version')) process.stdout.write('0.1.0\n');
  return 0;
}
