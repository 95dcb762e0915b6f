// One S3 server for all tests that need one: started before the first, stopped after the last.

import type { TestProject } from 'vitest/node';
import { givenS3, type S3Address, startRgw } from './rgw.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    s3: S3Address;
  }
}

export async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  const given = givenS3();
  if (given) {
    project.provide('s3', given);
    return undefined;
  }
  const server = await startRgw();
  project.provide('s3', server.address);
  return server.stop;
}
