// `image map`: the fields of `qemu-img map`. The answer may be longer than memory, so it is written while it is found.

import { overlay } from '../../../disk/overlay.ts';
import { type MapEntry, mapImage } from '../../../qcow2/image-map.ts';
import { openImageFile } from '../../../qcow2/open-image-file.ts';
import type { CliContext } from '../../cli-context.ts';
import { safeText } from '../../safe-text.ts';
import { writeOut } from '../../standard-streams.ts';

/** A map up to this many characters is printed whole or not at all, so that a damaged image gives an error and no half answer. */
const HELD_BACK = 16 * 1024 * 1024;

export async function printImageMap(context: CliContext, file: string, withBacking: boolean): Promise<void> {
  const { layers } = await openImageFile(file, 'qcow2', withBacking ? 'same-folder' : 'ignore');
  try {
    const names = layers.map((layer) => layer.name);
    await writeHeldBack(context.json ? jsonPieces(mapImage(layers)) : textPieces(mapImage(layers), names));
  } finally {
    await overlay(layers).close();
  }
}

async function writeHeldBack(pieces: AsyncIterable<string>): Promise<void> {
  let held = '';
  let mostHeld = HELD_BACK;
  for await (const piece of pieces) {
    held += piece;
    if (held.length < mostHeld) continue;
    if (!(await writeOut(held))) return;
    held = '';
    mostHeld = 64 * 1024;
  }
  await writeOut(held);
}

async function* jsonPieces(entries: AsyncIterable<MapEntry>): AsyncGenerator<string> {
  let first = true;
  for await (const entry of entries) {
    yield `${first ? '[' : ',\n'}${JSON.stringify(entry)}`;
    first = false;
  }
  yield first ? '[]\n' : ']\n';
}

async function* textPieces(entries: AsyncIterable<MapEntry>, names: readonly string[]): AsyncGenerator<string> {
  const line = (offset: string, length: string, mappedTo: string, file: string) =>
    `${offset.padEnd(16)}${length.padEnd(16)}${mappedTo.padEnd(16)}${file}\n`;
  const hex = (value: number) => `0x${value.toString(16)}`;
  yield line('Offset', 'Length', 'Mapped to', 'File');
  for await (const { start, length, depth, data, zero, compressed, offset } of entries) {
    if (!data || zero) continue;
    const mappedTo = compressed ? 'compressed' : offset === undefined ? 'unknown' : hex(offset);
    yield line(hex(start), hex(length), mappedTo, safeText(names[depth] ?? ''));
  }
}
