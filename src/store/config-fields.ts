// Kinds of fields that the settings of stores are made of. Values may come as text from a command line, where JSON has booleans and numbers.
// Messages name what is wrong and never repeat the value: it may be a secret in the wrong place. Brings zod: imported by schemas alone.

import { isAbsolute } from 'node:path';
import { z } from 'zod';
import { Secret } from '../plumbing/secret.ts';

/** Text on one line, without blanks around it: what ends up in a mount's options, a URL or a header. */
export const line = (missing: string) =>
  z
    .string(missing)
    .min(1, missing)
    .max(1024, 'is too long')
    .refine((text) => !/\p{Cc}/u.test(text) && text.trim() === text, 'has line breaks, control characters, or blanks around it');

export const absolutePath = (missing: string) =>
  z.string(missing).refine((path) => isAbsolute(path) && !path.includes('\0'), 'must be an absolute path');

/** A name or an address of a machine; no path, no option. */
export const server = () =>
  line('the name or address of the server is missing').regex(/^[A-Za-z0-9[][A-Za-z0-9.:_\-[\]%]*$/, 'is no name or address of a machine');

/** True and false, also as text. */
export const flag = () =>
  z.preprocess((value) => (value === 'true' ? true : value === 'false' ? false : value), z.boolean('must be true or false'));

/** Days, also as text. */
export const days = (least: number) =>
  z.preprocess(
    (value) => (typeof value === 'string' && /^\d{1,6}$/.test(value) ? Number(value) : value),
    z.int('must be a whole number of days').min(least, `must be at least ${least}`).max(36_500, 'must be at most 36500'),
  );

/** A whole number, also as text. */
export const count = (least: number, most: number) =>
  z.preprocess(
    (value) => (typeof value === 'string' && /^\d{1,16}$/.test(value) ? Number(value) : value),
    z.int('must be a whole number').min(least, `must be at least ${least}`).max(most, `must be at most ${most}`),
  );

/** Written once and never shown; forms know it by `secret`. Text becomes a Secret here. */
export const secret = (help: string) =>
  z
    .preprocess((value) => (typeof value === 'string' ? new Secret(value) : value), z.instanceof(Secret, { message: 'is missing' }))
    .refine((value) => value.reveal() !== '' && !value.reveal().includes('\0'), 'is empty, or has a NUL character')
    .meta({ secret: true, description: help });

/** The mark and the help lie on what a form sees, which is the optional field. */
export const optionalSecret = (help: string) => secret(help).optional().meta({ secret: true, description: help });

/** `https://host:port/path`; what belongs to a secret field (a user, a signature) is refused here. */
export const endpoint = () =>
  line('the address is missing').superRefine((text, context) => {
    const url = URL.parse(text);
    if (!url || !/^https?:$/.test(url.protocol)) return context.addIssue('must be an address that begins with https:// or http://');
    if (url.username || url.password || url.search || url.hash) {
      context.addIssue('must not contain a user, a password or a query: a secret has a field of its own');
    }
  });

/** Folder inside of the bucket or container: `a/b`. */
export const prefix = () =>
  z
    .string('must be text')
    .max(512, 'is too long')
    .regex(/^([A-Za-z0-9._-]+(\/[A-Za-z0-9._-]+)*)?$/, 'must be names of letters, digits, ".", "_" and "-", separated by "/"')
    .refine((text) => !text.split('/').some((name) => name === '.' || name === '..'), 'must not contain "." or ".." as a name');

const SECRET_OPTIONS = /(^|,)\s*(pass|password|password2|passwd|cred|credentials|user|username|username2)\s*(=|,|$)/i;

/** As mount(8) takes them behind -o. */
export const mountOptions = () =>
  z
    .string('must be text')
    .max(1024, 'is too long')
    .regex(/^[A-Za-z0-9._:=,/@%+-]*$/, 'has characters that no mount option has')
    .refine((text) => !SECRET_OPTIONS.test(text), 'must not contain a user or a password: they have fields of their own');

const SIZE_UNITS = ['', 'k', 'm', 'g', 't'];
const MOST_RATE = 2 ** 50;

/** Bytes a second; as text also `64k`, `10M`, `1G`, in powers of 1024 as sizes are everywhere. */
export const bytesPerSecond = () =>
  z.preprocess(
    (value) => {
      const match = typeof value === 'string' ? /^(\d{1,15})([kmgt]?)$/i.exec(value) : null;
      return match ? Number(match[1]) * 1024 ** SIZE_UNITS.indexOf((match[2] ?? '').toLowerCase()) : value;
    },
    z.int('must be bytes a second: 65536, 64k, 10M').min(1024, 'must be at least 1k').max(MOST_RATE, 'is more than any network has'),
  );
