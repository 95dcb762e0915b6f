// `export`: a restore point as a disk over NBD, until it is interrupted.

import { randomBytes } from 'node:crypto';
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import type { ExportInput } from '../../app-interface.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { cliContext, printAnswer } from '../cli-context.ts';
import { notBuiltYet } from '../planned-command.ts';
import { safeText } from '../safe-text.ts';
import { withJob } from '../with-app.ts';

interface ExportOptions {
  readonly vm?: string;
  readonly listen?: string;
  readonly tlsCertificates?: string;
  readonly plaintext?: boolean;
  readonly at?: string;
  readonly writable?: boolean;
}

export function exportCommand(): Command {
  return new Command('export')
    .description('serve a restore point read-only over NBD, every byte checked, until interrupted; prints the address first')
    .argument('[backup]', 'an id, an unambiguous beginning of one, or "latest" with --vm')
    .option('--vm <name>', 'the VM that "latest" means')
    .option('--listen <address>', 'unix:PATH or tcp:ADDR:PORT, port 0 for any (default: a unix socket in the home)')
    .option('--tls-certificates <folder>', 'server-cert.pem, server-key.pem, and ca-cert.pem, of which clients must have a certificate')
    .option('--plaintext', 'without TLS also where others can reach it')
    .option('--at <time>', 'the newest restore point not after this time (not built yet)')
    .option('--writable', 'with an overlay that is thrown away (not built yet)')
    .action(async (backup: string | undefined, options: ExportOptions, command: Command) => {
      const context = cliContext(command);
      const input = exportInput(backup, options, context.home);
      await withJob(context, (app, watch) =>
        app.exportBackup(input, {
          ...watch,
          onServing: (served) => printAnswer(context, { success: true, ...served }, () => `${safeText(served.address)}\n`),
        }),
      );
    });
}

function exportInput(backup: string | undefined, options: ExportOptions, home: string): ExportInput {
  if (options.at !== undefined) throw notBuiltYet('--at');
  if (options.writable) throw notBuiltYet('--writable');
  if (backup === undefined) throw new ChainkeepError('USAGE', 'say what to export: an id, or "latest" with --vm');
  return {
    backup,
    ...(options.vm !== undefined && { vm: options.vm }),
    listen: listenAt(options.listen ?? `unix:${join(home, `export-${randomBytes(4).toString('hex')}.sock`)}`),
    ...(options.tlsCertificates !== undefined && { tls_certificates: resolve(options.tlsCertificates) }),
    plaintext: options.plaintext ?? false,
  };
}

function listenAt(text: string): ExportInput['listen'] {
  const [, path] = /^unix:(.+)$/s.exec(text) ?? [];
  if (path !== undefined) return { kind: 'unix', path: resolve(path) };
  const [, host = '', port = ''] = /^tcp:(?:\[?([^\][]+)\]?):(\d{1,5})$/.exec(text) ?? [];
  if (host !== '' && Number(port) <= 65_535) return { kind: 'tcp', host, port: Number(port) };
  throw new ChainkeepError('USAGE', `--listen takes unix:PATH or tcp:ADDR:PORT, not "${text}"`, {
    advice: 'for example --listen tcp:127.0.0.1:10809',
  });
}
