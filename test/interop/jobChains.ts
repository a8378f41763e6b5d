import { join } from 'node:path';
import type { Random } from './random';
import { makeWithQemuImg, qemuImg, writeWithQemuIo } from './tools';

/* Chains for jobs: the layers differ in format, cluster size and length, and name one another as they lie in one folder. */

const KIB = 1024;
const MIB = 1024 * KIB;
const LARGEST_CLUSTER = 256 * KIB;

export interface ChainLayer {
  readonly name: string;
  readonly format: 'qcow2' | 'qed' | 'raw';
  readonly size: number;
}

/**
 * Makes a chain in `folder`, the base first. The same random numbers make the same chain.
 * @param growing no layer is shorter than the one below it
 */
export async function makeJobChain(random: Random, folder: string, depth: number, growing = false): Promise<readonly ChainLayer[]> {
  const layers: ChainLayer[] = [];
  // QEMU's own stream does not survive disks that end within a cluster.
  const common = random.between(4, 12) * MIB + LARGEST_CLUSTER * random.below(4);
  for (let index = 0; index < depth; index++) {
    const format = index === 0 && random.chance(0.3) ? 'raw' : random.chance(0.25) ? 'qed' : 'qcow2';
    const wanted = random.chance(0.6) ? common : common + LARGEST_CLUSTER * random.between(-6, 6);
    const size = growing ? Math.max(wanted, layers.at(-1)?.size ?? 0) : wanted;
    const layer: ChainLayer = { format, size, name: `l${index}.${format}` };
    const below = layers.at(-1);
    const backing = below ? ['-b', below.name, '-F', below.format] : [];
    await makeWithQemuImg(['create', '-q', '-f', format, ...backing, ...optionsOf(random, format), layer.name, `${size}`], { cwd: folder });
    const writes = Array.from({ length: random.between(2, 10) }, () => write(random, size));
    await writeWithQemuIo(['-f', format, layer.name], writes, { cwd: folder });
    layers.push(layer);
  }
  return layers;
}

function optionsOf(random: Random, format: ChainLayer['format']): string[] {
  switch (format) {
    case 'raw':
      return [];
    case 'qed':
      return ['-o', `cluster_size=${2 ** random.between(12, 17)}`];
    case 'qcow2': {
      const bits = random.between(12, 18);
      return ['-o', `cluster_size=${2 ** bits}${bits >= 14 && random.chance(0.4) ? ',extended_l2=on' : ''}`];
    }
  }
}

function write(random: Random, size: number): string {
  const unit = random.pick([512, 4 * KIB, 64 * KIB]);
  const start = unit * random.below(Math.floor(size / unit));
  const length = Math.min(size - start, unit * random.between(1, 30));
  return random.chance(0.2) ? `write -z ${start} ${length}` : `write -P ${random.between(1, 255)} ${start} ${length}`;
}

export interface MapEntry {
  readonly start: number;
  readonly length: number;
  readonly depth: number;
  readonly zero: boolean;
  readonly data: boolean;
}

/** What `qemu-img map` says of a chain, without where in its files, neighbours that say the same joined. */
export async function mapOf(folder: string, { name, format }: ChainLayer): Promise<readonly MapEntry[]> {
  const { code, stdout, stderr } = await qemuImg(['map', '--output=json', '-f', format, name], { cwd: folder });
  if (code !== 0) {
    throw new Error(`${join(folder, name)}: ${stderr}`);
  }
  const joined: MapEntry[] = [];
  for (const { start, length, depth, zero, data } of JSON.parse(stdout) as MapEntry[]) {
    const last = joined.at(-1);
    if (last?.depth === depth && last.zero === zero && last.data === data) {
      joined[joined.length - 1] = { ...last, length: last.length + length };
    } else {
      joined.push({ start, length, depth, zero, data });
    }
  }
  return joined;
}

/**
 * What two maps say of a disk, sector by sector: whether each is in the same layer, and how many hold data in the second and none in the
 * first. Zeroes beside data QEMU's jobs may copy as data.
 * @param end bytes from the disk's start that are compared
 */
export function comparedMaps(
  theirs: readonly MapEntry[],
  ours: readonly MapEntry[],
  end = Infinity,
): { readonly layersDiffer: number; readonly moreData: number } {
  const sectors = (entries: readonly MapEntry[], of: (entry: MapEntry) => number) =>
    entries.flatMap((entry) => Array.from({ length: entry.length / 512 }, () => of(entry))).slice(0, end / 512);
  const layer = ({ depth, data, zero }: MapEntry) => (data || zero ? depth : -1);
  const [left, right] = [sectors(theirs, layer), sectors(ours, layer)];
  const [had, has] = [sectors(theirs, ({ data }) => Number(data)), sectors(ours, ({ data }) => Number(data))];
  return {
    layersDiffer: left.filter((depth, index) => depth !== right[index]).length + Math.abs(left.length - right.length),
    moreData: has.filter((data, index) => data > (had[index] ?? 0)).length,
  };
}

/** Which image is built on which, as they have it recorded. */
export async function linksOf(folder: string, { name, format }: ChainLayer): Promise<readonly object[]> {
  const { code, stdout, stderr } = await qemuImg(['info', '--backing-chain', '--output=json', '-f', format, name], { cwd: folder });
  if (code !== 0) {
    throw new Error(`${join(folder, name)}: ${stderr}`);
  }
  return (JSON.parse(stdout) as Record<string, unknown>[]).map((image) => ({
    filename: image['filename'],
    format: image['format'],
    backing: image['backing-filename'],
    backingFormat: image['backing-filename-format'],
  }));
}

/** The guest's bytes are those of a raw image made before, and the image has no errors. */
export async function requireSound(folder: string, { name, format }: ChainLayer, content: string): Promise<void> {
  const compared = await qemuImg(['compare', '-f', format, '-F', 'raw', name, content], { cwd: folder });
  if (compared.code !== 0) {
    throw new Error(`${join(folder, name)}: ${compared.stdout}${compared.stderr}`);
  }
  if (format !== 'raw') {
    const checked = await qemuImg(['check', '-f', format, name], { cwd: folder });
    if (checked.code !== 0) {
      throw new Error(`${join(folder, name)}: ${checked.stdout}${checked.stderr}`);
    }
  }
}

/** What the guest reads, as a raw image. */
export async function keepContent(folder: string, { name, format }: ChainLayer, content: string): Promise<void> {
  await makeWithQemuImg(['convert', '-f', format, '-O', 'raw', name, content], { cwd: folder });
}
