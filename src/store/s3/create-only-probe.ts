// Finds out whether a server decides `If-None-Match: *` of a PUT by itself. Some refuse the header, some take it and overwrite all the same.
// It must not touch any blob but its own.

import { randomToken } from '../../plumbing/clock.ts';
import { SELF_TEST_PREFIX } from '../self-test-prefix.ts';
import type { S3Connection } from './s3-client.ts';
import { faultOf, isRefusedCondition } from './s3-errors.ts';
import { deleteVersion } from './s3-lock.ts';
import { keyOf, newObject } from './s3-objects.ts';

/**
 * Three small requests; AWS itself is not asked. Under Object Lock nobody is: there nothing is overwritten in any case, and whether a writer was alone
 * is seen by the versions.
 */
export async function decidesConditions(connection: S3Connection): Promise<boolean> {
  if (connection.settings.endpoint === undefined) return true;
  if (connection.settings.lockMode) return false;
  const name = `${SELF_TEST_PREFIX}condition-${randomToken(12)}/a`;
  const first = await putNew(connection, name);
  if (first === 'unknown') return false;
  const second = await putNew(connection, name);
  // Also where the first was refused: then it was written by an attempt whose answer was lost.
  await deleteVersion(connection, name, undefined);
  return second === 'refused';
}

type Answer = 'written' | 'refused' | 'unknown';

async function putNew(connection: S3Connection, name: string): Promise<Answer> {
  const { settings, sdk } = connection;
  const input = { ...newObject(settings, keyOf(settings, name)), Body: 'a condition is tried here', IfNoneMatch: '*' };
  return connection.ask({ action: `write ${name}`, writes: true }, async (client, options): Promise<Answer> => {
    try {
      await client.send(new sdk.PutObjectCommand(input), options);
      return 'written';
    } catch (error) {
      if (isRefusedCondition(error)) return 'refused';
      const { name: word, status } = faultOf(error);
      if (status === 501 || word === 'NotImplemented' || word === 'InvalidArgument') return 'unknown';
      throw error;
    }
  });
}
