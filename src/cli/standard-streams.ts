// stdout and stderr as a well-behaved program treats them: a reader that left (`| head`) is not an error, a full disk is.

import { safeText } from './safe-text.ts';

/** Call once, before anything is printed. */
export function openStandardStreams(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') return; // nobody reads any more; the work itself goes on to its end
    process.stderr.write(`error: the answer could not be written: ${safeText(error.message)}\n`);
    process.exitCode = 1;
  });
  process.stderr.on('error', () => undefined); // there is no place left to say it
}

/** Writes to stdout and waits until it is taken, so that a long answer needs no memory; false when nobody reads any more. */
export function writeOut(text: string): Promise<boolean> {
  return new Promise((fulfil) => {
    process.stdout.write(text, (error) => fulfil(!error));
  });
}
