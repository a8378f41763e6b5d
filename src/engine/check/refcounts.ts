import { EngineError } from '../errors';
import { loadRefcountTable } from '../formats/qcow2/tables';
import { safeNumber } from '../layout/codec';
import type { WordTable } from '../layout/wordTable';
import { MAX_FILE_LENGTH, type CheckedImage } from './opening';
import { readInto } from './padded';
import { BUFFER_BYTES, type ScanLoops } from './scanLoops';

/** Why a refcount block cannot be used; its clusters have no refcount then. */
export type BlockTrouble = 'misaligned' | 'unreadable';

/** The refcounts on the disk. */
export class Refcounts {
  readonly table: WordTable;
  /** The table's entries that are not zero. */
  readonly blocks: Uint32Array;
  /** Clusters that one block counts. */
  readonly blockEntries: number;
  private readonly image: CheckedImage;
  private readonly bits: number;
  private readonly trouble = new Map<number, BlockTrouble>();
  private readonly one = new Uint8Array(8);

  constructor(image: CheckedImage) {
    const { metadata, clusterSize } = image;
    this.image = image;
    this.bits = metadata.refcountBits;
    this.blockEntries = metadata.refcountBlockEntries;
    this.table = loadRefcountTable(metadata);
    this.blocks = usedEntries(this.table);
    for (const block of this.blocks) {
      const low = this.table.low(block);
      const offset = this.blockOffset(block);
      if ((low & 0xfffffe00 & (clusterSize - 1)) !== 0) {
        this.trouble.set(block, 'misaligned');
      } else if (offset >= 2 ** 52 && (this.table.word(block) & ~0x1ffn) + BigInt(clusterSize) > MAX_FILE_LENGTH) {
        this.trouble.set(block, 'unreadable');
      }
    }
  }

  /** Byte offset of a block, 0 where there is none. Past 2^53-1 it is Infinity; no file reaches that far. */
  blockOffset(block: number): number {
    if (block >= this.table.length) {
      return 0;
    }
    const high = this.table.high(block);
    return high < 0x00200000 ? high * 2 ** 32 + ((this.table.low(block) & ~0x1ff) >>> 0) : safeNumber(this.table.word(block) & ~0x1ffn);
  }

  blockOf(cluster: number): number {
    return Math.floor(cluster / this.blockEntries);
  }

  troubleOf(block: number): BlockTrouble | undefined {
    return this.trouble.get(block);
  }

  /**
   * Sets the map's refcount bits for a window (the one that the loops look at).
   * @param different is told the blocks that hold refcounts other than 0 and 1 in the window
   */
  load(loops: ScanLoops, firstCluster: number, windowLength: number, different: (block: number) => void): void {
    const end = firstCluster + windowLength;
    for (let block = this.blockOf(firstCluster); block * this.blockEntries < end; block++) {
      if (this.blockOffset(block) === 0 || this.trouble.has(block)) {
        continue;
      }
      const from = Math.max(firstCluster, block * this.blockEntries);
      const to = Math.min(end, (block + 1) * this.blockEntries);
      const neighbours = to - from === this.blockEntries ? this.neighbours(block, end) : 1;
      if (neighbours > 1 && this.loadTogether(loops, block, neighbours, firstCluster, different)) {
        block += neighbours - 1;
      } else if (!this.loadPart(loops, block, from, to, firstCluster)) {
        different(block);
      }
    }
  }

  /** How many whole blocks from this one on stand one after the other in the file, and fit the buffer. */
  private neighbours(block: number, end: number): number {
    const { clusterSize } = this.image;
    const offset = this.blockOffset(block);
    let count = 1;
    while (
      this.bits === 16 &&
      (count + 1) * clusterSize <= BUFFER_BYTES &&
      (block + count + 1) * this.blockEntries <= end &&
      this.blockOffset(block + count) === offset + count * clusterSize
    ) {
      count++;
    }
    return count;
  }

  /** Reads several blocks of 16-bit refcounts at once; false when that fails, and each is to be tried alone. */
  private loadTogether(loops: ScanLoops, block: number, count: number, firstCluster: number, different: (block: number) => void): boolean {
    const { clusterSize, metadata } = this.image;
    try {
      readInto(metadata.source, loops.buffer.subarray(0, count * clusterSize), this.blockOffset(block));
    } catch (error) {
      if (error instanceof EngineError && error.code === 'file.io') {
        return false;
      }
      throw error;
    }
    for (let i = 0; i < count; i++) {
      if (loops.pack16(i * clusterSize, clusterSize, ((block + i) * this.blockEntries - firstCluster) / 32)) {
        different(block + i);
      }
    }
    return true;
  }

  /**
   * Reads the refcounts of `from` to `to` - 1, all in one block, in pieces, and hands each to `each`.
   * @returns false when they cannot be read
   */
  readBlock(loops: ScanLoops, block: number, from: number, to: number, each: (cluster: number, refcount: number) => void): boolean {
    const { buffer, view } = loops;
    const perPiece = (BUFFER_BYTES * 8) / this.bits;
    for (let at = from; at < to; at += perPiece) {
      const count = Math.min(perPiece, to - at);
      if (!this.readPiece(block, at, buffer.subarray(0, Math.ceil((count * this.bits) / 8)))) {
        return false;
      }
      for (let i = 0; i < count; i++) {
        each(at + i, refcountAt(view, i, this.bits));
      }
    }
    return true;
  }

  /** The refcount of any cluster, undefined when its block is in trouble. Past 2^53 it is not exact. */
  lookup(cluster: number): number | undefined {
    const block = this.blockOf(cluster);
    const offset = this.blockOffset(block);
    if (offset === 0) {
      return 0;
    }
    if (this.trouble.has(block)) {
      return undefined;
    }
    const index = cluster - block * this.blockEntries;
    const width = Math.max(8, this.bits);
    if (!this.readPiece(block, cluster, this.one.subarray(0, width / 8))) {
      return undefined;
    }
    return refcountAt(new DataView(this.one.buffer), this.bits < 8 ? index % (8 / this.bits) : 0, this.bits);
  }

  /** Reads from the refcount of `cluster` on (from its byte, for widths below 8); an I/O error makes the block unreadable. */
  private readPiece(block: number, cluster: number, target: Uint8Array): boolean {
    const byte = Math.floor(((cluster - block * this.blockEntries) * this.bits) / 8);
    try {
      readInto(this.image.metadata.source, target, this.blockOffset(block) + byte);
      return true;
    } catch (error) {
      if (error instanceof EngineError && error.code === 'file.io') {
        this.trouble.set(block, 'unreadable');
        return false;
      }
      throw error;
    }
  }

  private loadPart(loops: ScanLoops, block: number, from: number, to: number, firstCluster: number): boolean {
    const { buffer, map } = loops;
    // Whole pairs of the map at a time: blocks and windows begin at multiples of 32 clusters, only the file's end does not.
    const perPiece = (BUFFER_BYTES * 8) / this.bits;
    let plain = true;
    for (let at = from; at < to; at += perPiece) {
      const count = Math.ceil(Math.min(perPiece, to - at) / 32) * 32;
      const bytes = (count * this.bits) / 8;
      if (!this.readPiece(block, at, buffer.subarray(0, bytes))) {
        clearBits(map, from - firstCluster, at - firstCluster);
        return true;
      }
      if (this.bits === 16 && bytes % 64 === 0) {
        plain = !loops.pack16(0, bytes, (at - firstCluster) / 32) && plain;
      } else {
        plain = pack(loops.view, count, this.bits, map, (at - firstCluster) / 32) && plain;
      }
    }
    return plain;
  }
}

/** The refcount of an entry, counted from the view's start; widths below 8 bits are packed least significant first. */
function refcountAt(view: DataView, index: number, bits: number): number {
  switch (bits) {
    case 8:
      return view.getUint8(index);
    case 16:
      return view.getUint16(index * 2);
    case 32:
      return view.getUint32(index * 4);
    case 64:
      return view.getUint32(index * 8) * 2 ** 32 + view.getUint32(index * 8 + 4);
    default: {
      const perByte = 8 / bits;
      return (view.getUint8(Math.floor(index / perByte)) >>> ((index % perByte) * bits)) & (2 ** bits - 1);
    }
  }
}

/** Like the kernel's pack16 for any width; returns whether all refcounts are 0 or 1. */
function pack(view: DataView, count: number, bits: number, map: Int32Array, pair: number): boolean {
  let plain = true;
  for (let i = 0; i < count; i += 32) {
    let word = 0;
    for (let k = 0; k < 32; k++) {
      const refcount = refcountAt(view, i + k, bits);
      if (refcount === 1) {
        word |= 1 << k;
      } else if (refcount !== 0) {
        plain = false;
      }
    }
    map[pair * 2 + (i >>> 4)] = word;
  }
  return plain;
}

/** Takes back what was packed of a block before it turned out to be unreadable; both ends are multiples of 32. */
function clearBits(map: Int32Array, from: number, to: number): void {
  for (let pair = from / 32; pair < to / 32; pair++) {
    map[pair * 2] = 0;
  }
}

function usedEntries(table: WordTable): Uint32Array {
  const used: number[] = [];
  const { bytes } = table;
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, table.length * 2);
  for (let i = 0; i < words.length; i += 2) {
    if (((words[i] ?? 0) | (words[i + 1] ?? 0)) !== 0) {
      used.push(i / 2);
    }
  }
  return Uint32Array.from(used);
}
