// The settings of a repository in an S3 bucket. Imported by nothing that opens one: it brings zod.

import { z } from 'zod';
import { count, endpoint, flag, line, optionalSecret, prefix } from '../config-fields.ts';
import { objectFields } from '../object/object-fields.ts';

/** 32 bytes in base 64, as a customer's own key for encryption is given. */
const CUSTOMER_KEY = /^[A-Za-z0-9+/]{43}=$/;

export const s3ConfigSchema = z
  .strictObject({
    region: line('the region is missing')
      .regex(/^[A-Za-z0-9-]+$/, 'must be a name like eu-central-1')
      .default('us-east-1')
      .describe('Region of the bucket; most servers other than AWS take any.'),
    bucket: line('the name of the bucket is missing')
      .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$/, 'is no name of a bucket')
      .describe('Name of the bucket. It must exist.'),
    prefix: prefix().default('').describe('Folder inside of the bucket. Empty: the whole bucket is the repository.'),
    endpoint: endpoint().optional().describe('Address of a server other than AWS, for example https://minio.example:9000.'),
    access_key_id: line('must be text')
      .optional()
      .describe('Access key id: the public half of the key. Left out: what the machine has (environment, profile, role).'),
    secret_access_key: optionalSecret('Secret access key: the other half.'),
    session_token: optionalSecret('Session token of a key that ends; only with temporary keys.'),
    path_style: flag()
      .default(false)
      .describe('Name the bucket in the path instead of the host name, as many servers other than AWS need it.'),
    use_object_lock: flag().default(false).describe('Lock backups with S3 Object Lock. The bucket must have been made with it.'),
    object_lock_mode: z
      .enum(['compliance', 'governance'], 'must be compliance or governance')
      .default('compliance')
      .describe('In compliance nobody can unlock before the date; in governance who has the right to bypass can.'),
    server_side_encryption: z
      .enum(['none', 'aes256', 'kms', 'customer'], 'must be none, aes256, kms or customer')
      .default('none')
      .describe('Encryption by the server: none (what the bucket does by itself), aes256 (SSE-S3), kms (SSE-KMS), customer (SSE-C).'),
    kms_key_id: line('must be text').optional().describe('Key of the key service, for kms. Left out: the one of the account.'),
    customer_key: optionalSecret('Key for customer: 32 bytes in base 64. Lost with it is every backup.'),
    checksums: flag().default(true).describe('Send a checksum with everything written. For servers that refuse it: false.'),
    ...objectFields,
    max_object_size_gib: count(1, 1_000_000).default(5120).describe('GiB that the server takes in one object.'),
    max_parts: count(2, 100_000).default(10_000).describe('Parts that the server takes in one upload.'),
    equal_parts: flag().default(false).describe('All parts of an upload but the last must have the same size, as a few servers want it.'),
  })
  .superRefine((config, context) => {
    const fault = (field: string, message: string): void => context.addIssue({ code: 'custom', path: [field], message });
    if ((config.access_key_id === undefined) !== (config.secret_access_key === undefined)) {
      fault('secret_access_key', 'access_key_id and secret_access_key are given together or not at all');
    }
    if (config.session_token !== undefined && config.access_key_id === undefined) fault('session_token', 'belongs to an access_key_id');
    const isCustomer = config.server_side_encryption === 'customer';
    if (isCustomer !== (config.customer_key !== undefined)) fault('customer_key', 'goes with server_side_encryption=customer');
    if (config.customer_key && !CUSTOMER_KEY.test(config.customer_key.reveal())) fault('customer_key', 'must be 32 bytes in base 64');
    if (config.kms_key_id !== undefined && config.server_side_encryption !== 'kms') {
      fault('kms_key_id', 'goes with server_side_encryption=kms');
    }
  });
