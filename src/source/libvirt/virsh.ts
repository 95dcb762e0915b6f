// Runs virsh(1), with a time limit: the one way to libvirt that needs no library of it. LIBVIRT_DEFAULT_URI says to which libvirt.

import { spawn } from 'node:child_process';
import { ChainkeepError, systemCode } from '../../plumbing/errors.ts';

/** A guest that is brought to rest may take a minute. */
const LIMIT_MS = 180_000;
const MOST_BYTES = 16 * 2 ** 20;

/** What it printed. Throws HYPERVISOR_FAILED (`context.said`), SOURCE_NOT_FOUND for a domain that there is not, CONNECTION_FAILED. */
export function virsh(command: string, ...options: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('virsh', ['--quiet', command, ...options], {
      stdio: ['ignore', 'pipe', 'pipe'],
      // Whoever interrupts us from a terminal interrupts us alone: what libvirt is asked for goes on without virsh, and nobody would know how it ended.
      detached: true,
      env: { ...process.env, LC_ALL: 'C', LANGUAGE: 'C' },
    });
    const printed: Buffer[] = [];
    let bytes = 0;
    let said = '';
    let failure: ChainkeepError | undefined;
    const fail = (error: ChainkeepError): void => {
      failure ??= error;
      child.kill('SIGKILL');
    };
    const timer = setTimeout(() => fail(noAnswer(command)), LIMIT_MS);
    child.stdout.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > MOST_BYTES) fail(refused(command, `it printed more than ${MOST_BYTES} bytes`));
      else printed.push(chunk);
    });
    child.stderr.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(0, 4000);
    });
    child.on('error', (error) => {
      clearTimeout(timer);
      reject(notStarted(error));
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      if (failure) reject(failure);
      else if (code === 0) resolve(Buffer.concat(printed).toString('utf8'));
      else reject(explain(command, said));
    });
  });
}

/** Domains may be called `--help`. */
export function domainOption(domain: string): string {
  return `--domain=${domain}`;
}

function explain(command: string, said: string): ChainkeepError {
  const lines = said.split('\n').map((line) => line.replace(/^error: /, '').trim());
  const what = lines.filter((line) => line !== '').join('; ') || 'it does not say why';
  if (/failed to get domain|domain not found|no domain with matching/i.test(said)) {
    return new ChainkeepError('SOURCE_NOT_FOUND', `libvirt knows no such domain: ${what}`, {
      advice: 'virsh list --all names those there are; LIBVIRT_DEFAULT_URI says which libvirt is asked',
      context: { said: what },
    });
  }
  if (/failed to connect to the hypervisor|failed to connect socket|end of file while reading/i.test(said)) {
    return new ChainkeepError('CONNECTION_FAILED', `libvirt cannot be reached: ${what}`, {
      advice: 'is libvirtd running, and does LIBVIRT_DEFAULT_URI lead to it?',
      retryable: true,
      context: { said: what },
    });
  }
  return refused(command, what);
}

function refused(command: string, what: string): ChainkeepError {
  return new ChainkeepError('HYPERVISOR_FAILED', `libvirt refuses ${command}: ${what}`, {
    advice: 'the log of libvirt and that of the domain may say more',
    context: { command, said: what },
  });
}

function noAnswer(command: string): ChainkeepError {
  return new ChainkeepError('CONNECTION_FAILED', `virsh ${command} did not end within ${LIMIT_MS / 1000} s`, {
    advice: 'does libvirt hang? look at virsh list and its log',
    retryable: true,
    context: { command, waited_ms: LIMIT_MS },
  });
}

function notStarted(cause: Error): ChainkeepError {
  const missing = systemCode(cause) === 'ENOENT';
  return new ChainkeepError('HYPERVISOR_FAILED', missing ? 'virsh is not installed' : `virsh cannot be started: ${cause.message}`, {
    advice: 'install the client of libvirt (package libvirt-clients)',
    cause,
  });
}
