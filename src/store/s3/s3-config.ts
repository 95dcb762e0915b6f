// The settings of a repository in an S3 bucket. Imported by nothing that opens one: it brings zod.

import { z } from 'zod';
import { endpoint, flag, line, prefix, secret } from '../config-fields.ts';

export const s3ConfigSchema = z.strictObject({
  region: line('the region is missing')
    .regex(/^[A-Za-z0-9-]+$/, 'must be a name like eu-central-1')
    .default('us-east-1')
    .describe('Region of the bucket; most servers other than AWS take any.'),
  bucket: line('the name of the bucket is missing')
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$/, 'is no name of a bucket')
    .describe('Name of the bucket. It must exist.'),
  prefix: prefix().default('').describe('Folder inside of the bucket. Empty: the whole bucket is the repository.'),
  endpoint: endpoint().optional().describe('Address of a server other than AWS, for example https://minio.example:9000.'),
  access_key_id: line('the access key id is missing').describe('Access key id: the public half of the key.'),
  secret_access_key: secret('Secret access key: the other half.'),
  path_style: flag()
    .default(false)
    .describe('Name the bucket in the path instead of the host name, as many servers other than AWS need it.'),
  use_object_lock: flag().default(false).describe('Lock backups with S3 Object Lock. The bucket must have been made with it.'),
});
