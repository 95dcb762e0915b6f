// A guest is brought to rest for the moment of the backup, and woken up whatever happens.

import { describe, expect, it } from 'vitest';
import { GuestRest, openGuestAgent } from '../../src/source/qmp/guest-agent.ts';
import { peerFolder } from '../nbd/nbd-peers.ts';
import { type Scripted, scriptedSocket } from './scripted-socket.ts';

const sockets = peerFolder();

interface Behaviour {
  readonly status?: string;
  readonly freeze?: object;
  readonly thaw?: object;
}

/** Knows the commands that are used; answers a mark with a 0xFF in front, as the real one does, after something that was meant for somebody else. */
function agent({ status = 'thawed', freeze = { return: 2 }, thaw = { return: 2 } }: Behaviour = {}): Promise<Scripted> {
  const answers: Readonly<Record<string, object>> = {
    'guest-fsfreeze-status': { return: status },
    'guest-fsfreeze-freeze': freeze,
    'guest-fsfreeze-thaw': thaw,
  };
  return scriptedSocket(sockets('a'), (line) => {
    const { execute, arguments: given } = JSON.parse(line.replace(/^\xff/, ''));
    if (execute === 'guest-sync-delimited') return `{"return": 17}\n\xff${JSON.stringify({ return: given.id })}\n`;
    return `${JSON.stringify(answers[execute])}\n`;
  });
}

const commands = ({ heard }: Scripted): string[] =>
  heard.map((line) => JSON.parse(line.replace(/^\xff/, '')).execute.replace(/^guest-/, ''));

async function run(scripted: Scripted, work: () => Promise<string>): Promise<{ readonly result: string; readonly notices: string[] }> {
  const notices: string[] = [];
  const opened = await openGuestAgent(scripted.path);
  if (!opened) throw new Error('no agent answered');
  const rest = new GuestRest(opened, { onNotice: (notice) => notices.push(notice), mayBeFrozen: false });
  const result = await rest.around(work).catch((error: unknown) => String(error));
  rest.close();
  return { result, notices };
}

describe('a guest with an agent', () => {
  it('is frozen before the work and thawed after it', async () => {
    const scripted = await agent();
    const seen = await run(scripted, async () => commands(scripted).at(-1) ?? '');
    expect(seen).toEqual({ result: 'fsfreeze-freeze', notices: [] });
    expect(commands(scripted)).toEqual(['sync-delimited', 'fsfreeze-status', 'fsfreeze-freeze', 'fsfreeze-thaw']);
  });

  it('is thawed when the work fails', async () => {
    const scripted = await agent();
    const { result } = await run(scripted, () => Promise.reject(new Error('it went wrong')));
    expect(result).toContain('it went wrong');
    expect(commands(scripted).at(-1)).toBe('fsfreeze-thaw');
  });

  it('that refuses to freeze is backed up all the same, said, and thawed to be sure', async () => {
    const scripted = await agent({ freeze: { error: { class: 'GenericError', desc: 'a disk is busy' } } });
    const { result, notices } = await run(scripted, async () => 'done');
    expect([result, notices]).toEqual(['done', [expect.stringMatching(/as after a power loss.*a disk is busy/)]]);
    expect(commands(scripted).at(-1)).toBe('fsfreeze-thaw');
  });

  it('that is frozen already is left to whoever froze it', async () => {
    const scripted = await agent({ status: 'frozen' });
    const { notices } = await run(scripted, async () => 'done');
    expect(notices).toEqual([expect.stringContaining('by somebody else')]);
    expect(commands(scripted)).not.toContain('fsfreeze-thaw');
  });

  it('that does not thaw is asked again, and a person is told', async () => {
    const scripted = await agent({ thaw: { error: { class: 'GenericError', desc: 'no' } } });
    const { notices } = await run(scripted, async () => 'done');
    expect(notices).toEqual([expect.stringContaining('could not be thawed')]);
    expect(commands(scripted).filter((name) => name === 'fsfreeze-thaw')).toHaveLength(3);
  });
});

// Its freezing takes longer than anybody waits; it takes commands in their order.
it('that freezes after nobody waits for it any more is thawed all the same', async () => {
  let isFrozen = false;
  let open: (() => void) | undefined;
  const held = new Promise<void>((resolve) => {
    open = resolve;
  });
  let busy: Promise<void> = Promise.resolve();
  const answers: Readonly<Record<string, (id: number) => unknown>> = {
    'guest-sync-delimited': (id) => id,
    'guest-fsfreeze-status': () => (isFrozen ? 'frozen' : 'thawed'),
    'guest-fsfreeze-freeze': () => {
      isFrozen = true;
      return 2;
    },
    'guest-fsfreeze-thaw': () => {
      isFrozen = false;
      return 2;
    },
  };
  const scripted = await scriptedSocket(sockets('slow'), (line, socket) => {
    const { execute, arguments: given } = JSON.parse(line.replace(/^\xff/, ''));
    if (execute === 'guest-fsfreeze-freeze') busy = held;
    busy = busy.then(() => void socket.write(`${JSON.stringify({ return: answers[execute]?.(given?.id) })}\n`));
    return undefined;
  });
  const opened = await openGuestAgent(scripted.path, { freezeWithin: 300 });
  if (!opened) throw new Error('no agent answered');
  const notices: string[] = [];
  const rest = new GuestRest(opened, { onNotice: (notice) => notices.push(notice), mayBeFrozen: false });
  const done = rest.around(async () => 'done');
  setTimeout(() => open?.(), 5000);
  expect(await done).toBe('done');
  await rest.wake();
  rest.close();
  expect(isFrozen).toBe(false);
  expect(notices).toEqual([expect.stringContaining('as after a power loss')]);
});

describe('where no agent answers', () => {
  it('nobody waits long', async () => {
    expect(await openGuestAgent(sockets('none'))).toBeUndefined();
    expect(await openGuestAgent((await scriptedSocket(sockets('a'), () => 'nonsense\n')).path)).toBeUndefined();
    expect(await openGuestAgent((await scriptedSocket(sockets('a'), () => undefined)).path)).toBeUndefined();
  });
});
