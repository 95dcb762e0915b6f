// A server at a unix socket that says what a test wants: a monitor or a guest agent that is odd, slow or hostile.

import { rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { onTestFinished } from 'vitest';

export interface Scripted {
  readonly path: string;
  /** Lines that were heard, in order. */
  readonly heard: readonly string[];
}

/** `onLine` answers what to send back; undefined: nothing. `greeting` is sent to everybody who comes. */
export async function scriptedSocket(
  path: string,
  onLine: (line: string, socket: Socket) => string | undefined,
  greeting?: string,
): Promise<Scripted> {
  const heard: string[] = [];
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.on('error', () => undefined); // whoever is done with it closes it
    if (greeting !== undefined) socket.write(greeting);
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      const lines = (text + chunk.toString('latin1')).split('\n');
      text = lines.pop() ?? '';
      for (const line of lines) {
        heard.push(line);
        const answer = onLine(line, socket);
        if (answer !== undefined) socket.write(answer, 'latin1');
      }
    });
  });
  rmSync(path, { force: true });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  onTestFinished(() => {
    server.close();
    for (const socket of open) socket.destroy();
  });
  return { path, heard };
}
