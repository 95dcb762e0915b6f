// A read of a share in several questions: when it has failed, nothing writes into the caller's buffer any more.

import { expect, it } from 'vitest';
import { ChainkeepError } from '../../src/plumbing/errors.ts';
import { MountedSource, PIECE } from '../../src/store/mounted/mounted-source.ts';

it('a failed read leaves the buffer to its owner', async () => {
  let answerSecond = (): void => undefined;
  const child = {
    loss: undefined,
    ask: (request: { readonly offset: number }, { into }: { readonly into: Uint8Array }) => {
      if (request.offset === 0) return Promise.reject(new ChainkeepError('STORE_FAILED', 'the first piece'));
      return new Promise<void>((resolve) => {
        answerSecond = () => {
          into.fill(0xee);
          resolve();
        };
      });
    },
  };
  const source = new MountedSource(child as never, { name: 'a', size: 2 * PIECE, number: 1 });
  const buffer = new Uint8Array(2 * PIECE);
  let ended = false;
  const reading = source.read(buffer, 0).catch((error: unknown) => {
    ended = true;
    return error;
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect(ended).toBe(false);
  answerSecond();
  expect(await reading).toMatchObject({ code: 'STORE_FAILED' });
});
