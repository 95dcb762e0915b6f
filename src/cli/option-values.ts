// Values of options, read strictly: whatever is not exactly right is wrong usage.

import { resolve } from 'node:path';
import { isNbdAddress } from '../nbd/client/address.ts';
import { ChainkeepError } from '../plumbing/errors.ts';

/** What the catalog's column for it can hold, on every database. */
const MOST_DISK_NUMBER = 2 ** 31 - 1;

/** Number of a disk of a VM: a whole number from 0. */
export function parseDiskNumber(text: string): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw new ChainkeepError('USAGE', `"${text}" is not a whole number from 0`);
  if (value > MOST_DISK_NUMBER)
    throw new ChainkeepError('USAGE', `${text} is too large for the number of a disk (at most ${MOST_DISK_NUMBER})`);
  return value;
}

const MOST_COUNT = 100_000;

/** How many: a whole number from 1. */
export function parseCount(text: string): number {
  const value = /^\d+$/.test(text) ? Number(text) : 0;
  if (value >= 1 && value <= MOST_COUNT) return value;
  throw new ChainkeepError('USAGE', `"${text}" is not a whole number from 1 to ${MOST_COUNT}`);
}

/** For options that may be given several times. */
export function collect(value: string, previous: readonly string[] | undefined): readonly string[] {
  return [...(previous ?? []), value];
}

/** Splits `key=value` at the first equals sign. */
export function parsePair(text: string, option: string): readonly [key: string, value: string] {
  const at = text.indexOf('=');
  if (at < 1) throw new ChainkeepError('USAGE', `${option} takes key=value, not "${text}"`);
  return [text.slice(0, at), text.slice(at + 1)];
}

const MONITOR = 'qmp:';
const DOMAIN = 'libvirt:';

/** A running machine as it is named on the command line: `qmp:SOCKET` with an absolute path, or `libvirt:DOMAIN`; undefined for everything else. */
export function parseVmPlace(text: string): string | undefined {
  if (text === DOMAIN) throw new ChainkeepError('USAGE', 'libvirt: is followed by the name of a domain');
  if (text.startsWith(DOMAIN)) return text;
  if (!text.startsWith(MONITOR)) return undefined;
  const path = text.slice(MONITOR.length);
  if (path === '') throw new ChainkeepError('USAGE', 'qmp: is followed by the path of the monitor socket');
  return MONITOR + resolve(path);
}

/** A disk as it is named on the command line: an address of an export, which stays as it is, or a path. Throws USAGE for a running machine. */
export function parseDiskPlace(text: string, what: string): string {
  if (isNbdAddress(text)) return text;
  if (text.startsWith(MONITOR) || text.startsWith(DOMAIN))
    throw new ChainkeepError('USAGE', `${what} is a running machine, and a disk is wanted`, {
      advice: 'a machine is backed up as a whole: chainkeep backup qmp:SOCKET --vm NAME; a file of this name is written as ./NAME',
    });
  return parseFilePlace(text, what);
}

/**
 * Paths become absolute, because a job may be looked at from another folder later; a slash at the end stays, so that a file is not taken for the folder
 * that was meant. Throws USAGE for the address of an export.
 */
export function parseFilePlace(text: string, what: string): string {
  if (text === '') throw new ChainkeepError('USAGE', `${what} is empty`);
  if (isNbdAddress(text)) {
    const advice = 'for exports there are: chainkeep nbd info and nbd copy; a file of this name is written as ./NAME';
    throw new ChainkeepError('USAGE', `${what} is the address of an export, and a file is wanted`, { advice });
  }
  const path = resolve(text);
  return text.endsWith('/') && path !== '/' ? `${path}/` : path;
}
