import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { Random } from './random';
import { makeWithQemuImg, runTool } from './tools';

/*
 * Random images over the option space, made by the real tools. `makeImage(seed, folder)` gives the same image for the same seed and the
 * same qemu-utils.
 */

export interface RandomImage {
  readonly seed: number;
  readonly path: string;
  readonly format: 'qcow2' | 'qed';
  /** What the image was made with and what happened to it, as commands a person can repeat. */
  readonly describe: string;
  /** The arguments that name the image to a qemu tool: its path, or for LUKS the options and the secret. */
  readonly qemuArguments: readonly string[];
  /** External data file, if it has one. */
  readonly dataFile: string | null;
  /** Its backing images, nearest first. */
  readonly backing: readonly string[];
  /** Virtual size in bytes. */
  readonly size: number;
  readonly clusterSize: number;
  /** Names of internal snapshots and bitmaps that it ended up with. */
  readonly snapshots: readonly string[];
  readonly bitmaps: readonly string[];
}

/** Narrows what is generated; what is not named is drawn at random. */
export interface ImageOptions {
  readonly format?: 'qcow2' | 'qed';
  /** Share of images with LUKS encryption; they take long to make. */
  readonly encrypted?: number;
  /** Depth of the backing chain is at most this. */
  readonly maxDepth?: number;
  /** Largest virtual size in bytes. */
  readonly maxSize?: number;
  /** Whether qemu-io may be made to crash, which leaves leaks, and dirty images where refcounts are lazy. */
  readonly crash?: boolean;
}

/** Everything of one image while it is being made. */
interface Draft {
  readonly random: Random;
  readonly path: string;
  readonly clusterSize: number;
  readonly size: number;
  readonly compressible: boolean;
  readonly args: readonly string[];
  readonly log: string[];
}

const KIB = 1024;
const MIB = 1024 * KIB;
const SECRET = ['--object', 'secret,id=sec0,data=chainscope'];

export async function makeImage(seed: number, folder: string, options: ImageOptions = {}): Promise<RandomImage> {
  const random = new Random(seed);
  const format = options.format ?? (random.chance(0.15) ? 'qed' : 'qcow2');
  const maxDepth = options.maxDepth ?? 1;
  const depth = random.chance(0.3) ? random.between(0, maxDepth) : 0;
  const image =
    format === 'qed'
      ? await makeQed(random, folder, `${seed}`, depth, options)
      : await makeQcow2(random, folder, `${seed}`, depth, options);
  await settle([image.path, ...image.backing, ...(image.dataFile === null ? [] : [image.dataFile])]);
  return image;
}

/**
 * Waits until the file system has decided how many blocks the files have: QEMU looks at that number when it maps an image, and two
 * programs that look one after the other are to see the same.
 */
export async function settle(paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    const file = await open(path, 'r+');
    await file.sync();
    await file.close();
  }
}

async function makeQcow2(random: Random, folder: string, name: string, depth: number, options: ImageOptions): Promise<RandomImage> {
  const path = join(folder, `${name}.qcow2`);
  const log: string[] = [];
  const old = random.chance(0.15);
  const clusterBits = random.chance(0.25) ? 16 : random.between(9, 21);
  const clusterSize = 2 ** clusterBits;
  const size = randomSize(random, clusterSize, options.maxSize);
  const extended = !old && clusterBits >= 14 && random.chance(0.3);
  const dataFile = !old && depth === 0 && random.chance(0.12) ? join(folder, `${name}.data`) : null;
  const rawDataFile = dataFile !== null && random.chance(0.5);
  const encrypted = !old && !dataFile && clusterBits >= 12 && random.chance(options.encrypted ?? 0.04);
  const refcountBits = old || random.chance(0.4) ? 16 : 2 ** random.between(0, 6);
  const backing = depth > 0 ? await makeBacking(random, folder, name, depth, size, options) : null;
  const settings = [`cluster_size=${clusterSize}`, `compat=${old ? '0.10' : '1.1'}`];
  if (!old) {
    settings.push(
      `refcount_bits=${refcountBits}`,
      `extended_l2=${extended ? 'on' : 'off'}`,
      `lazy_refcounts=${random.chance(0.3) ? 'on' : 'off'}`,
    );
    settings.push(`compression_type=${random.chance(0.4) ? 'zstd' : 'zlib'}`);
  }
  if (dataFile) {
    settings.push(`data_file=${dataFile}`, `data_file_raw=${rawDataFile ? 'on' : 'off'}`);
  }
  if (encrypted) {
    settings.push('encrypt.format=luks', 'encrypt.key-secret=sec0', 'encrypt.iter-time=10');
  }
  // Preallocated images are as long as their disk; tests copy and read them.
  const sparseEnough = size <= 64 * MIB;
  if (!backing && random.chance(0.2) && size <= 512 * MIB) {
    settings.push(`preallocation=${sparseEnough && random.chance(0.3) ? random.pick(['falloc', 'full']) : 'metadata'}`);
  } else if (backing && extended && random.chance(0.3)) {
    settings.push('preallocation=metadata');
  }
  await qemuImg(log, [
    'create',
    '-q',
    ...(encrypted ? SECRET : []),
    '-f',
    'qcow2',
    ...(backing ? ['-b', backing.path, '-F', backing.format] : []),
    '-o',
    settings.join(','),
    path,
    `${size}`,
  ]);
  const args = encrypted
    ? [...SECRET, '--image-opts', `driver=qcow2,file.filename=${path},encrypt.key-secret=sec0`]
    : ['-f', 'qcow2', path];
  const draft: Draft = { random, path, clusterSize, size, compressible: !dataFile, args, log };

  const snapshots: string[] = [];
  const bitmaps: string[] = [];
  for (let step = random.between(0, 4); step >= 0; step--) {
    await guestWrites(draft);
    if (!dataFile && random.chance(0.3)) {
      const snapshot = `snap${snapshots.length}`;
      if (await tryQemuImg(log, ['snapshot', ...encryptedFirst(args), '-c', snapshot])) {
        snapshots.push(snapshot);
      }
    }
    if (snapshots.length > 0 && random.chance(0.2)) {
      const chosen = random.below(snapshots.length);
      const remove = random.chance(0.5);
      if ((await tryQemuImg(log, ['snapshot', ...encryptedFirst(args), remove ? '-d' : '-a', snapshots[chosen] ?? ''])) && remove) {
        snapshots.splice(chosen, 1);
      }
    }
    if (!old && !encrypted && random.chance(0.25)) {
      const bitmap = `bitmap${bitmaps.length}`;
      const granularity = ['-g', `${2 ** random.between(9, 20)}`];
      if (
        await tryQemuImg(log, [
          'bitmap',
          '--add',
          ...(random.chance(0.7) ? granularity : []),
          ...(random.chance(0.3) ? ['--disable'] : []),
          ...args,
          bitmap,
        ])
      ) {
        bitmaps.push(bitmap);
      }
    }
  }
  if (options.crash && random.chance(0.2)) {
    await crash(draft);
  }
  return {
    seed: random.seed,
    path,
    format: 'qcow2',
    describe: log.join('\n'),
    qemuArguments: encrypted ? args : [path],
    dataFile,
    backing: backing ? [backing.path, ...backing.backing] : [],
    size,
    clusterSize,
    snapshots,
    bitmaps,
  };
}

async function makeQed(random: Random, folder: string, name: string, depth: number, options: ImageOptions): Promise<RandomImage> {
  const path = join(folder, `${name}.qed`);
  const log: string[] = [];
  const clusterSize = 2 ** random.between(12, 18);
  const size = randomSize(random, clusterSize, options.maxSize);
  const backing = depth > 0 ? await makeBacking(random, folder, name, depth, size, options) : null;
  // A table size of one cluster is legal by the specification; QEMU creates such an image and then refuses to open it.
  const settings = `cluster_size=${clusterSize},table_size=${2 ** random.between(1, 4)}`;
  await qemuImg(log, [
    'create',
    '-q',
    '-f',
    'qed',
    ...(backing ? ['-b', backing.path, '-F', backing.format] : []),
    '-o',
    settings,
    path,
    `${size}`,
  ]);
  const draft: Draft = { random, path, clusterSize, size, compressible: false, args: ['-f', 'qed', path], log };
  for (let step = random.between(0, 3); step > 0; step--) {
    await guestWrites(draft);
  }
  if (options.crash && random.chance(0.3)) {
    await crash(draft);
  }
  return {
    seed: random.seed,
    path,
    format: 'qed',
    describe: log.join('\n'),
    qemuArguments: [path],
    dataFile: null,
    backing: backing ? [backing.path, ...backing.backing] : [],
    size,
    clusterSize,
    snapshots: [],
    bitmaps: [],
  };
}

async function makeBacking(
  random: Random,
  folder: string,
  name: string,
  depth: number,
  overlaySize: number,
  options: ImageOptions,
): Promise<{ path: string; format: string; backing: readonly string[] }> {
  if (depth === 1 && random.chance(0.4)) {
    const path = join(folder, `${name}.base.raw`);
    const log: string[] = [];
    const size = Math.max(512, overlaySize - 512 * random.below(64));
    await qemuImg(log, ['create', '-q', '-f', 'raw', path, `${size}`]);
    await guestWrites({ random, path, clusterSize: 64 * KIB, size, compressible: false, args: ['-f', 'raw', path], log });
    return { path, format: 'raw', backing: [] };
  }
  const inner = { ...options, encrypted: 0, crash: false, maxSize: overlaySize };
  const image = random.chance(0.2)
    ? await makeQed(random, folder, `${name}.${depth}`, depth - 1, inner)
    : await makeQcow2(random, folder, `${name}.${depth}`, depth - 1, inner);
  return image;
}

/** Sizes that are no multiple of the cluster, small and large; a table-rich image costs little, it is sparse. */
function randomSize(random: Random, clusterSize: number, limit = 2 ** 40): number {
  const entries = clusterSize / 8;
  const perTable = entries * clusterSize;
  const wanted = random.chance(0.6)
    ? random.between(1, 48) * MIB
    : random.chance(0.5)
      ? random.between(1, 12) * perTable
      : random.between(1, 200) * clusterSize;
  const odd = random.chance(0.4) ? 512 * random.below(200) : 0;
  // Tables of 512-byte clusters are many for little data; a few thousand are enough.
  return Math.max(512, Math.min(wanted + odd, limit, clusterSize * 60_000));
}

/** A few guest requests in one qemu-io run: data, zeroes, discards, compressed clusters. */
async function guestWrites(draft: Draft): Promise<void> {
  const commands: string[] = [];
  for (let count = draft.random.between(1, 8); count > 0; count--) {
    commands.push(guestRequest(draft));
  }
  await qemuIo(draft.log, draft.args, commands);
}

function guestRequest({ random, clusterSize, size, compressible }: Draft): string {
  const aligned = random.chance(0.5);
  const unit = aligned ? Math.min(clusterSize, size) : 512;
  const slots = Math.max(1, Math.floor(size / unit));
  // Requests gather in a few regions, so that they overwrite each other and share L2 tables.
  const region = random.chance(0.7) ? Math.min(slots, 40) : slots;
  const first = random.below(region);
  const most = Math.min(slots - first, Math.max(1, Math.floor((4 * MIB) / unit)), 24);
  const start = first * unit;
  const length = Math.min(random.between(1, most) * unit, size - start);
  const pattern = random.between(1, 255);
  switch (random.below(10)) {
    case 0:
      return `write -z ${start} ${length}`;
    case 1:
      return `write -z -u ${start} ${length}`;
    case 2:
      return `discard ${start} ${length}`;
    case 3:
    case 4: {
      // Compressed requests are whole clusters (the last one may be cut by the end of the disk).
      const cluster = Math.floor(start / clusterSize) * clusterSize;
      return compressible
        ? `write -c -P ${pattern} ${cluster} ${Math.min(clusterSize, size - cluster)}`
        : `write -P ${pattern} ${start} ${length}`;
    }
    default:
      return `write -P ${pattern} ${start} ${length}`;
  }
}

/** Ends qemu-io in the middle: nothing that it had in its caches reaches the file. */
async function crash(draft: Draft): Promise<void> {
  const commands = [guestRequest(draft), ...(draft.random.chance(0.5) ? ['flush', guestRequest(draft)] : []), 'abort'];
  await qemuIo(draft.log, draft.args, commands);
}

/** `qemu-img snapshot` takes no `-f`; an encrypted image is named by its options. */
function encryptedFirst(args: readonly string[]): readonly string[] {
  return args[0] === '-f' ? args.slice(2) : args;
}

async function qemuImg(log: string[], args: readonly string[]): Promise<void> {
  log.push(shown('qemu-img', args));
  await makeWithQemuImg(args);
}

/** For operations that some option combinations refuse (a snapshot needs refcounts of two). */
async function tryQemuImg(log: string[], args: readonly string[]): Promise<boolean> {
  try {
    await qemuImg(log, args);
    return true;
  } catch (error) {
    log.push(`# refused: ${error instanceof Error ? error.message.trim().split('\n').at(-1) : String(error)}`);
    return false;
  }
}

/** qemu-io ends with 1 when any request failed (a compressed rewrite may be refused); the image is what counts. */
async function qemuIo(log: string[], args: readonly string[], commands: readonly string[]): Promise<void> {
  const all = [...args, ...commands.flatMap((command) => ['-c', command])];
  log.push(shown('qemu-io', all));
  const { code, signal, stderr } = await runTool('qemu-io', all);
  if (code !== 0) {
    log.push(`# ${signal ?? stderr.trim().split('\n').at(-1)}`);
  }
}

function shown(tool: string, args: readonly string[]): string {
  return [tool, ...args.map((argument) => (/[^\w./=,:-]/.test(argument) ? `'${argument}'` : argument))].join(' ');
}
