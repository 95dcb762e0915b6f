// An image file as its layers, together with the backing files that the images name, where the caller asks for those.
// This is the only place that opens a file because an image names it, and it follows nothing but plain names in the same folder.

import { lstatSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { DiskReader } from '../disk/disk-reader.ts';
import { openRawReader } from '../disk/raw-file-reader.ts';
import { systemCode } from '../plumbing/errors.ts';
import { openFileSource } from '../plumbing/file-source.ts';
import type { Qcow2Header } from './header.ts';
import { openQcow2 } from './image.ts';
import { unsupportedImage, withImageName } from './invalid-image.ts';
import { createTableCache, type TableCache } from './table-cache.ts';

export type ImageFormat = 'raw' | 'qcow2';

/** What becomes of a backing file: the image is refused, its own layer alone is opened, or the file is opened too. */
export type BackingChoice = 'refuse' | 'ignore' | 'same-folder';

export interface ImageFile {
  /** Newest first; what no layer decides reads as zeros. The caller closes all of them. */
  readonly layers: readonly DiskReader[];
  /** What a user should know of the images. */
  readonly warnings: readonly string[];
}

const LONGEST_CHAIN = 1024;
const ADVICE = 'write the backing chain into one image where it was made, and use that';

/**
 * Opens `path` as an image of `format`, which is never guessed.
 * Throws QCOW2_INVALID, QCOW2_UNSUPPORTED (a backing file that is not allowed), SOURCE_NOT_FOUND and what a file source throws.
 */
export async function openImageFile(path: string, format: ImageFormat, backing: BackingChoice): Promise<ImageFile> {
  const layers: DiskReader[] = [];
  const warnings: string[] = [];
  const cache = createTableCache();
  try {
    let next: { path: string; format: ImageFormat } | undefined = { path, format };
    while (next) {
      const file = next.path;
      if (layers.some((layer) => layer.name === file)) throw unsupportedImage(`the backing chain of ${path} leads back to ${file}`, ADVICE);
      if (layers.length === LONGEST_CHAIN)
        throw unsupportedImage(`the backing chain of ${path} is longer than ${LONGEST_CHAIN} images`, ADVICE);
      const { reader, header, notes } = await openLayer(next.path, next.format, cache);
      layers.push(reader);
      warnings.push(...notes.map((note) => `${reader.name}: ${note}`));
      next = header && planBacking(next.path, header, backing);
    }
    return { layers, warnings };
  } catch (error) {
    await Promise.allSettled(layers.map((layer) => layer.close()));
    throw error;
  }
}

interface OpenedLayer {
  readonly reader: DiskReader;
  readonly header?: Qcow2Header;
  readonly notes: readonly string[];
}

async function openLayer(path: string, format: ImageFormat, cache: TableCache): Promise<OpenedLayer> {
  const source = await openFileSource(path);
  if (format === 'raw') return { reader: openRawReader(source), notes: [] };
  try {
    const image = await openQcow2(source, { layer: true, cache });
    return { reader: image, header: image.header, notes: image.warnings };
  } catch (error) {
    await source.close();
    throw error;
  }
}

function planBacking(path: string, header: Qcow2Header, choice: BackingChoice): { path: string; format: ImageFormat } | undefined {
  const { backing } = header;
  if (!backing || choice === 'ignore') return undefined;
  const shown = JSON.stringify(backing.name);
  const refuse = (why: string, advice: string) => withImageName(path, unsupportedImage(why, advice));
  if (choice === 'refuse') {
    throw refuse(`the image needs the backing file ${shown}`, 'say --with-backing to read both; the file must lie in the same folder');
  }
  if (!isPlainName(backing.name)) throw refuse(`the backing file ${shown} is not a plain name in the same folder`, ADVICE);
  if (backing.format !== 'raw' && backing.format !== 'qcow2') {
    const said = backing.format === undefined ? 'not said' : JSON.stringify(backing.format);
    throw refuse(`the format of the backing file ${shown} is ${said}; only raw and qcow2 are read, and nothing is guessed`, ADVICE);
  }
  const file = join(dirname(path), backing.name);
  if (!isFile(file)) throw refuse(`the backing file ${shown} is not a file in the same folder`, 'put it there; links are not followed');
  return { path: file, format: backing.format };
}

/** One segment of a path, and nothing that QEMU would read as a protocol (`json:`, `nbd:`). */
function isPlainName(name: string): boolean {
  return name !== '.' && name !== '..' && !/[/\0]/.test(name) && !/^[a-z0-9+.-]+:/i.test(name);
}

function isFile(path: string): boolean {
  try {
    return lstatSync(path).isFile();
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw error;
  }
}
