// A unix socket over which JSON documents travel, one a line: QEMU's monitor and the guest agent speak so.
// It knows nothing of what is in them; what is no JSON, or has no end, ends the connection.

import { createConnection, type Socket } from 'node:net';
import { ChainkeepError, systemCode } from '../../plumbing/errors.ts';

/** `query-named-block-nodes` of a machine with a hundred disks is about 1 MiB. */
const MOST_LINE_BYTES = 32 * 2 ** 20;

export interface JsonSocket {
  send(document: unknown): void;
  /** Raw bytes, for the guest agent, which wants a 0xFF between what was before and what is new. */
  sendBytes(bytes: Uint8Array): void;
  close(): void;
}

export interface JsonSocketHandlers {
  readonly onDocument: (document: unknown) => void;
  /** Once, also after `close`. */
  readonly onEnd: (error: ChainkeepError) => void;
}

/** Rejects with CONNECTION_FAILED. */
export function openJsonSocket(path: string, { onDocument, onEnd }: JsonSocketHandlers): Promise<JsonSocket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ path });
    let isOpen = false;
    let ended = false;
    const end = (error: ChainkeepError): void => {
      if (ended) return;
      ended = true;
      socket.destroy();
      if (isOpen) onEnd(error);
      else reject(error);
    };
    readLines(socket, (line) => (ended ? undefined : take(line, path, onDocument, end)), end, path);
    socket.on('error', (error) => end(unreachable(path, error)));
    socket.on('close', () => end(closed(path)));
    socket.once('connect', () => {
      isOpen = true;
      resolve({
        send: (document) => socket.write(`${JSON.stringify(document)}\n`),
        sendBytes: (bytes) => socket.write(bytes),
        close: () => {
          end(closed(path));
        },
      });
    });
  });
}

function readLines(socket: Socket, onLine: (line: string) => void, end: (error: ChainkeepError) => void, path: string): void {
  let pending: Buffer[] = [];
  let length = 0;
  socket.on('data', (chunk: Buffer) => {
    let start = 0;
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, start)) {
      const line = Buffer.concat([...pending, chunk.subarray(start, at)]);
      pending = [];
      length = 0;
      start = at + 1;
      onLine(line.toString('utf8'));
    }
    pending.push(chunk.subarray(start));
    length += chunk.length - start;
    if (length > MOST_LINE_BYTES) end(breach(path, `a line of more than ${MOST_LINE_BYTES} bytes`));
  });
}

function take(line: string, path: string, onDocument: (document: unknown) => void, end: (error: ChainkeepError) => void): void {
  // The agent answers a 0xFF with one of its own; it is no text in UTF-8 and stands at the beginning of a line.
  const text = line.replace(/^\uFFFD+/, '').trim();
  if (text === '') return;
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    end(breach(path, 'something that is no JSON'));
    return;
  }
  onDocument(document);
}

function breach(path: string, what: string): ChainkeepError {
  return new ChainkeepError('HYPERVISOR_FAILED', `${path} sent ${what}`, {
    advice: 'is it the socket of a monitor in QMP mode (-qmp), or of a guest agent?',
    context: { socket: path },
  });
}

function closed(path: string): ChainkeepError {
  return new ChainkeepError('CONNECTION_FAILED', `the connection to ${path} was closed`, {
    advice: 'is the virtual machine still running?',
    retryable: true,
    context: { socket: path },
  });
}

function unreachable(path: string, cause: Error): ChainkeepError {
  const code = systemCode(cause);
  const why = code === 'ENOENT' ? 'it does not exist' : code === 'ECONNREFUSED' ? 'nobody listens there' : (code ?? cause.message);
  return new ChainkeepError('CONNECTION_FAILED', `${path} cannot be reached: ${why}`, {
    advice: 'is the virtual machine running, with its monitor at this socket (-qmp unix:PATH,server=on,wait=off)?',
    context: { socket: path },
    cause,
  });
}
