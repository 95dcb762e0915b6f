// What a bucket must be before locked backups go there: asked when it is opened, so that nobody learns it from a backup that nobody locked.
// It must not refuse what it was not allowed to ask, or what the server does not know how to answer: that is learned at the first lock.

import { ChainkeepError } from '../../plumbing/errors.ts';
import type { S3Connection } from './s3-client.ts';
import { faultOf } from './s3-errors.ts';

/** CONFIG_INVALID where the bucket was made without Object Lock. */
export async function checkObjectLock({ settings, sdk, ask }: S3Connection): Promise<void> {
  const { bucket, place } = settings;
  const enabled = await ask({ action: `ask for the Object Lock of ${bucket}` }, async (client, options) => {
    try {
      const answer = await client.send(new sdk.GetObjectLockConfigurationCommand({ Bucket: bucket }), options);
      return answer.ObjectLockConfiguration?.ObjectLockEnabled === 'Enabled';
    } catch (error) {
      const { name, status = 0 } = faultOf(error);
      if (name === 'ObjectLockConfigurationNotFoundError') return false;
      if (name === 'AccessDenied' || status === 405 || status === 501) return undefined;
      throw error;
    }
  });
  if (enabled !== false) return;
  throw new ChainkeepError('CONFIG_INVALID', `the bucket ${bucket} has no Object Lock`, {
    advice: 'Object Lock is chosen when a bucket is made; use another bucket, or set use_object_lock=false',
    context: { place, settings: ['use_object_lock'] },
  });
}
