import { join } from 'node:path';

import { Random } from './random';
import { makeWithQemuImg, runTool } from './tools';

/*
 * Chains as they grow in the field when nobody looks: formats, cluster sizes and lengths differ from layer to layer, and writes land on
 * what layers below already have.
 */

export interface MixedChain {
  /** The active layer. */
  readonly path: string;
  /** Every command that made it. */
  readonly commands: readonly string[];
}

const KIB = 1024;
const MIB = 1024 * KIB;

/** Makes a chain of 1 to `maxDepth` images in `folder`; the same seed makes the same chain. */
export async function makeMixedChain(seed: number, folder: string, maxDepth: number): Promise<MixedChain> {
  const random = new Random(seed);
  const commands: string[] = [];
  const common = random.between(1, 24) * MIB + (random.chance(0.4) ? 512 * random.below(2000) : 0);
  let below: { path: string; format: string } | null = null;
  const depth = random.between(1, maxDepth);
  for (let layer = 0; layer < depth; layer++) {
    const size = random.chance(0.5) ? common : Math.max(512, common + 512 * random.between(-4000, 4000));
    const format: string = layer === 0 && depth > 1 && random.chance(0.35) ? 'raw' : random.chance(0.2) ? 'qed' : 'qcow2';
    const path = join(folder, `${seed}-${layer}.${format}`);
    const { options, clusterSize, compressible } = layerOptions(random, format, below !== null);
    const backing: string[] = below ? ['-b', below.path, '-F', below.format] : [];
    const create = ['create', '-q', '-f', format, ...backing, ...(options === '' ? [] : ['-o', options]), path, `${size}`];
    commands.push(`qemu-img ${create.join(' ')}`);
    await makeWithQemuImg(create);
    const requests = Array.from({ length: random.between(0, 14) }, () => request(random, size, clusterSize, compressible));
    const args = ['-f', format, path, ...requests.flatMap((text) => ['-c', text])];
    commands.push(`qemu-io ${args.map((argument) => (argument.includes(' ') ? `'${argument}'` : argument)).join(' ')}`);
    // A compressed write over an allocated cluster is refused; what the image then holds is what counts.
    await runTool('qemu-io', args);
    below = { path, format };
  }
  return { path: below?.path ?? '', commands };
}

function layerOptions(
  random: Random,
  format: string,
  hasBacking: boolean,
): { options: string; clusterSize: number; compressible: boolean } {
  if (format === 'raw') {
    return { options: `preallocation=${random.pick(['off', 'off', 'falloc', 'full'])}`, clusterSize: 64 * KIB, compressible: false };
  }
  if (format === 'qed') {
    const clusterSize = 2 ** random.between(12, 17);
    return { options: `cluster_size=${clusterSize},table_size=${2 ** random.between(1, 3)}`, clusterSize, compressible: false };
  }
  const clusterBits = random.chance(0.4) ? 16 : random.between(9, 21);
  const options = [`cluster_size=${2 ** clusterBits}`];
  const extended = clusterBits >= 14 && random.chance(0.5);
  if (random.chance(0.1) && !extended) {
    options.push('compat=0.10');
  } else {
    options.push(`extended_l2=${extended ? 'on' : 'off'}`, `compression_type=${random.pick(['zlib', 'zstd'])}`);
    options.push(`refcount_bits=${2 ** random.between(0, 6)}`);
  }
  if (!hasBacking || extended) {
    options.push(`preallocation=${random.pick(['off', 'off', 'metadata', hasBacking ? 'metadata' : 'falloc'])}`);
  }
  return { options: options.join(','), clusterSize: 2 ** clusterBits, compressible: true };
}

function request(random: Random, size: number, clusterSize: number, compressible: boolean): string {
  const unit = random.chance(0.5) ? 512 : Math.min(clusterSize, size);
  const slots = Math.max(1, Math.floor(size / unit));
  const first = random.below(random.chance(0.7) ? Math.min(slots, 64) : slots);
  const start = first * unit;
  const length = Math.min(size - start, random.between(1, 40) * unit, 2 * MIB);
  const kind = random.below(12);
  if (kind === 0 && compressible) {
    const cluster = start - (start % clusterSize);
    return `write -c -P 7 ${cluster} ${Math.min(clusterSize, size - cluster)}`;
  }
  return (
    [`write -z ${start} ${length}`, `write -z -u ${start} ${length}`, `discard ${start} ${length}`][kind - 1] ??
    `write -P 5 ${start} ${length}`
  );
}
