// Reads every restore point back and compares: through the program, and through qemu-img alone from a folder that holds nothing but images.

import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Random } from '../random.ts';
import { start } from '../user.ts';
import type { Keeper } from './keeper.ts';
import type { Point } from './known-chains.ts';
import { bytesOf, differenceOf, type KnownDisk, padded } from './known-disk.ts';
import type { Story } from './story.ts';

/** All that is wrong with what the keeper has; the repository is moved away at the end. `folder` is empty before and after. */
export async function judgeStory(keeper: Keeper, { points, removed }: Story, folder: string, random: Random): Promise<string[]> {
  const faults: string[] = [];
  for (const point of points) {
    faults.push(...(await judgeRestore(keeper, point, folder)));
    if (point === points.at(-1) || random.chance(0.2)) faults.push(...(await judgeRestoredImage(keeper, point, folder)));
  }
  const [gone] = removed;
  if (gone && (await restores(keeper, gone.id, join(folder, 'gone')))) faults.push(`${gone.id} was deleted and is restored all the same`);
  faults.push(...(await keeper.findDamage()).map((damage) => `verify says: ${damage}`));
  faults.push(...judgeFiles(keeper.diskFolder(), points), ...judgeSidecars(keeper.diskFolder(), points));
  const moved = takeImagesAway(keeper, folder);
  faults.push(...(await judgeByQemu(moved, points)));
  rmSync(moved, { recursive: true });
  return faults;
}

async function judgeRestore(keeper: Keeper, { id, content }: Point, folder: string): Promise<string[]> {
  const target = join(folder, 'restored');
  await keeper.restore(id, target, 'raw');
  const difference = differenceOf(readFileSync(target), bytesOf(content));
  rmSync(target);
  return difference ? [`restore of ${id}: ${difference}`] : [];
}

async function judgeRestoredImage(keeper: Keeper, { id, content }: Point, folder: string): Promise<string[]> {
  const target = join(folder, 'restored.qcow2');
  await keeper.restore(id, target, 'qcow2');
  const [said] = await readByQemu([target]);
  const faults = judgeRead(target, said, content);
  rmSync(target);
  return faults.map((fault) => `restore of ${id} as qcow2: ${fault}`);
}

async function restores(keeper: Keeper, id: string, target: string): Promise<boolean> {
  try {
    await keeper.restore(id, target, 'raw');
    return true;
  } catch (error) {
    // By whatever way it is told; anything else is a fault of its own.
    if (error instanceof Error && /BACKUP_NOT_FOUND/.test(`${Reflect.get(error, 'code')} ${error.message}`)) return false;
    throw error;
  }
}

function judgeFiles(folder: string, points: readonly Point[]): string[] {
  const expected = points.flatMap(({ id }) => [`${id}.1.digests`, `${id}.json`, `${id}.qcow2`]);
  const found = readdirSync(folder);
  const missing = expected.filter((name) => !found.includes(name)).map((name) => `${name} is missing`);
  return [...missing, ...found.filter((name) => !expected.includes(name)).map((name) => `${name} is left over`)];
}

/** As plain JSON. The content root is the same exactly where disk and cluster size are the same. */
function judgeSidecars(folder: string, points: readonly Point[]): string[] {
  const faults: string[] = [];
  const roots = new Map<string, string>();
  const contents = new Map<string, string>();
  for (const { id, type, parent, chain, clusterSize, content } of points) {
    const sidecar: { readonly content_root: string; readonly qcow2: Record<string, unknown> } & Record<string, unknown> = JSON.parse(
      readFileSync(join(folder, `${id}.json`), 'utf8'),
    );
    const fields = {
      backup_id: id,
      backup_type: type,
      parent_backup_id: parent?.id ?? null,
      chain_id: chain,
      total_bytes: content.size,
    };
    for (const [name, value] of Object.entries(fields))
      if (sidecar[name] !== value) faults.push(`${name} in the sidecar of ${id} is ${sidecar[name]} and not ${value}`);
    if (sidecar.qcow2.cluster_size !== clusterSize)
      faults.push(`the cluster size of ${id} is ${sidecar.qcow2.cluster_size}, not ${clusterSize}`);
    const read = `${clusterSize} ${content.size} ${createHash('sha256').update(bytesOf(content)).digest('hex')}`;
    const root = roots.get(read) ?? sidecar.content_root;
    const other = contents.get(sidecar.content_root) ?? read;
    if (root !== sidecar.content_root || other !== read) faults.push(`the content root of ${id} is not that of its content`);
    roots.set(read, sidecar.content_root);
    contents.set(sidecar.content_root, read);
  }
  return faults;
}

/** Images alone, in a folder of another name, while the repository is not where it was. */
function takeImagesAway(keeper: Keeper, folder: string): string {
  const images = keeper.diskFolder();
  const moved = join(folder, 'images alone');
  mkdirSync(moved);
  for (const name of readdirSync(images)) if (name.endsWith('.qcow2')) copyFileSync(join(images, name), join(moved, name));
  renameSync(keeper.root, `${keeper.root}-away`);
  return moved;
}

async function judgeByQemu(folder: string, points: readonly Point[]): Promise<string[]> {
  const faults: string[] = [];
  for (let at = 0; at < points.length; at += BATCH) {
    const batch = points.slice(at, at + BATCH);
    const images = batch.map(({ id }) => join(folder, `${id}.qcow2`));
    const said = await readByQemu(images);
    for (const [index, { id, content }] of batch.entries())
      faults.push(...judgeRead(images[index] ?? '', said[index], content).map((fault) => `${id} by qemu-img alone: ${fault}`));
  }
  return faults;
}

// A process that is started from this large one costs more than all that qemu-img does: a shell starts the others.
const BATCH = 8;
// A check looks at one image; named like this, QEMU does not open all that it stands on. Errors end in 2, leaks in 3.
const READ_IMAGES = `for image; do
  qemu-img check -q 'json:{"driver":"qcow2","backing":null,"file":{"driver":"file","filename":"'"$image"'"}}' 2>&1; echo "check $?"
  qemu-img convert -f qcow2 -O raw "$image" "$image.raw" 2>&1; echo "convert $?"
done`;
const ALL_WELL = 'check 0\nconvert 0\n';

/** What qemu-img said of each image. */
async function readByQemu(images: readonly string[]): Promise<string[]> {
  const { code, stdout, stderr } = await start(['sh', '-c', READ_IMAGES, 'sh', ...images]).ended;
  if (code !== 0) throw new Error(`qemu-img did not read all images: ${stderr}${stdout}`);
  return stdout.split(/(?<=^convert \d+\n)/m);
}

function judgeRead(image: string, said: string | undefined, content: KnownDisk): string[] {
  if (said !== ALL_WELL) return [`qemu-img said: ${said}`];
  const difference = differenceOf(readFileSync(`${image}.raw`), padded(bytesOf(content)));
  rmSync(`${image}.raw`);
  return difference ? [difference] : [];
}
