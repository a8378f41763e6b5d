/* VMDK files as bytes, for tests that need them wrong. Sectors of 512 bytes. */

export const SECTOR = 512;

export interface DescriptorOptions {
  readonly createType?: string;
  /** Lines before the extents; left out, they are what a disk without a parent has. */
  readonly head?: string;
}

/** A descriptor file with these extent lines. */
export function descriptor(lines: readonly string[], { createType = 'twoGbMaxExtentSparse', head }: DescriptorOptions = {}): Buffer {
  const first = head ?? `version=1\nCID=12345678\nparentCID=ffffffff\ncreateType="${createType}"\n`;
  return Buffer.from(`# Disk DescriptorFile\n${first}\n# Extent description\n${lines.join('\n')}\n`);
}

export interface SparseOptions {
  /** Sectors. */
  readonly capacity: number | bigint;
  /** Sectors of a grain. */
  readonly grain?: number;
  /** Entries of the one grain table: sectors at which grains lie. */
  readonly grains?: readonly number[];
  /** Entries of the grain directory: sectors at which tables lie; left out, the one table that is there. */
  readonly directory?: readonly number[];
  /** Header fields as they should not be, by their offset: bytes in little-endian order. */
  readonly fields?: readonly { readonly offset: number; readonly length: 2 | 4 | 8; readonly value: number | bigint }[];
  /** Bytes from a sector on. */
  readonly contents?: readonly { readonly sector: number; readonly bytes: Uint8Array }[];
  /** Length of the file in sectors. */
  readonly length?: number;
  /** The embedded descriptor; left out, there is none. */
  readonly descriptor?: Uint8Array;
}

/** Where the pieces of a sparse extent lie, in sectors. */
export const LAYOUT = { descriptor: 1, directory: 21, table: 22, grains: 32 } as const;

/** A hosted sparse extent: header, directory and table behind it, then grains. */
export function sparse(options: SparseOptions): Buffer {
  const { capacity, grain = 8, grains = [], directory = [LAYOUT.table], length = 64 } = options;
  const file = Buffer.alloc(length * SECTOR);
  file.write('KDMV', 0, 'latin1');
  file.writeUInt32LE(1, 4);
  file.writeUInt32LE(1, 8);
  file.writeBigUInt64LE(BigInt(capacity), 12);
  file.writeBigUInt64LE(BigInt(grain), 20);
  if (options.descriptor) {
    file.writeBigUInt64LE(BigInt(LAYOUT.descriptor), 28);
    file.writeBigUInt64LE(20n, 36);
    file.set(options.descriptor, LAYOUT.descriptor * SECTOR);
  }
  file.writeUInt32LE(512, 44);
  file.writeBigUInt64LE(BigInt(LAYOUT.directory), 56);
  file.writeBigUInt64LE(BigInt(LAYOUT.grains), 64);
  directory.forEach((sector, index) => file.writeUInt32LE(sector, LAYOUT.directory * SECTOR + index * 4));
  grains.forEach((sector, index) => file.writeUInt32LE(sector, LAYOUT.table * SECTOR + index * 4));
  for (const { sector, bytes } of options.contents ?? []) {
    file.set(bytes, sector * SECTOR);
  }
  for (const { offset, length: width, value } of options.fields ?? []) {
    if (width === 8) {
      file.writeBigUInt64LE(BigInt(value), offset);
    } else {
      file.writeUIntLE(Number(value), offset, width);
    }
  }
  return file;
}

/** A monolithicSparse image: an extent with its own descriptor. */
export function monolithic(options: SparseOptions): Buffer {
  const text = descriptor([`RW ${options.capacity} SPARSE "own.vmdk"`], { createType: 'monolithicSparse' });
  return sparse({ ...options, descriptor: text });
}
