import { statusAbove } from '../../block/above';
import type { BlockNode } from '../../block/blockNode';
import { Qcow2Node } from '../../formats/qcow2/write/qcow2Node';
import { isZero } from '../../isZero';

/** Bytes that are compared at a time. */
const CHUNK = 1024 * 1024;
const SECTOR = 512;

/** What one look at a stretch of the disk says. */
export interface DifferenceStep {
  /** Bytes from the offset that was asked for, at least 1. */
  readonly length: number;
  /** False: the image reads the same there on both, as far as is known without reading. */
  readonly compare: boolean;
}

/**
 * What an image has from its backing file and would not have from another one. With those bytes of its own it reads the same on either, and
 * may be built on the other one. Zeroes past the end of a backing file count like all others.
 */
export class Differences {
  private readonly node: BlockNode;
  private readonly old: BlockNode | null;
  private readonly below: BlockNode | null;
  /** A base further down in the same chain differs only by what lies between. */
  private readonly inChain: boolean;
  /** Bytes that the image allocates at a time. */
  private readonly unit: number;
  private readonly had: Buffer;
  private readonly has: Buffer;

  /** @param below the other backing file; null for none */
  constructor(node: BlockNode, below: BlockNode | null) {
    this.node = node;
    this.old = node.backing;
    this.below = below;
    this.inChain = below !== null && isBelow(this.old, below);
    this.unit = node instanceof Qcow2Node ? node.codec.unitBytes : (node.clusterSize ?? SECTOR);
    this.had = Buffer.allocUnsafeSlow(Math.max(CHUNK, this.unit));
    this.has = Buffer.allocUnsafeSlow(this.had.length);
  }

  /** @param length at least 1, inside the disk; what is to be compared ends before it where one piece does */
  async look(offset: number, length: number): Promise<DifferenceStep> {
    const own = await this.node.blockStatus(offset, length);
    if (own.class !== 'unallocated') {
      return { length: Math.min(length, own.length), compare: false };
    }
    const rest = Math.min(own.length, length);
    const above = await statusAbove(this.old, this.inChain ? this.below : null, offset, rest);
    if (this.inChain && above.class === 'unallocated') {
      return { length: above.length, compare: false };
    }
    if (above.class !== 'data' && !this.inChain) {
      const other = await statusAbove(this.below, null, offset, above.length);
      if (other.class !== 'data') {
        return { length: other.length, compare: false };
      }
    }
    const end = (Math.floor(offset / this.had.length) + 1) * this.had.length;
    return { length: Math.min(rest, end - offset), compare: true };
  }

  /**
   * Gives the image the bytes of a stretch that differ, in whole units.
   * @param length of a stretch that is to be compared, unallocated in the image
   * @returns bytes that were written
   */
  async keep(offset: number, length: number): Promise<number> {
    const [had, has] = [this.had.subarray(0, length), this.has.subarray(0, length)];
    await readPadded(this.old, offset, had);
    await readPadded(this.below, offset, has);
    return this.writeDifferent(offset, had, has);
  }

  /** Writes whole units that differ somewhere, neighbours at once. */
  private async writeDifferent(offset: number, had: Buffer, has: Buffer): Promise<number> {
    const endOf = (at: number) => Math.min(had.length, (Math.floor((offset + at) / this.unit) + 1) * this.unit - offset);
    const differs = (at: number) => had.compare(has, at, endOf(at), at, endOf(at)) !== 0;
    let written = 0;
    for (let at = 0; at < had.length;) {
      if (!differs(at)) {
        at = endOf(at);
        continue;
      }
      let end = endOf(at);
      while (end < had.length && differs(end)) {
        end = endOf(end);
      }
      const bytes = had.subarray(at, end);
      // Without a backing file an image leaves zeroes unallocated, and the new one would shine through.
      await (isZero(bytes)
        ? this.node.writeZeroes(offset + at, bytes.length, { mayUnmap: true, explicit: true })
        : this.node.write(offset + at, bytes));
      written += end - at;
      at = end;
    }
    return written;
  }
}

function isBelow(top: BlockNode | null, wanted: BlockNode): boolean {
  for (let node = top; node !== null; node = node.backing) {
    if (node === wanted) {
      return true;
    }
  }
  return false;
}

/** Past the end of a backing file there are zeroes. */
async function readPadded(node: BlockNode | null, offset: number, target: Uint8Array): Promise<void> {
  const there = node === null ? 0 : Math.max(0, Math.min(target.length, node.size - offset));
  target.fill(0, there);
  if (node !== null && there > 0) {
    await node.read(offset, target.subarray(0, there));
  }
}
