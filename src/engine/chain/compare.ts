import { EngineError } from '../errors';
import type { ClusterCipher } from '../formats/qcow2/crypto/clusterCipher';
import { fileKey, FileSource } from '../io/file';
import { Pace, type PaceOptions } from '../pace';
import type { Layer, OpenedChain } from './layer';
import { openReader, type ChainReader } from './chainReader';
import { QemuChainStatus, STATUS } from './qemuStatus';
import { dataSource } from './layerStatus';

export interface CompareOptions extends PaceOptions {
  /** Sizes and allocation must be the same too, as with `qemu-img compare -s`. */
  readonly strict?: boolean | undefined;
  /** The ciphers of both sides' encrypted layers, as `unlockChain` gives them. */
  readonly ciphers?: ReadonlyMap<Layer, ClusterCipher> | undefined;
}

/** Which of the two compared chains. */
export type Side = 'a' | 'b';

/** What a comparison came to; the first difference ends it. Offsets are those that qemu-img compare (7.2) names. */
export type Comparison =
  /** `sizesDiffer`: one disk is longer, and what it has more is zeroes. */
  | { readonly kind: 'identical'; readonly sizesDiffer: boolean }
  /** `sizesDiffer`: the difference lies past the end of the shorter disk. */
  | { readonly kind: 'contentMismatch'; readonly guestOffset: number; readonly sizesDiffer: boolean }
  /** Strict only. */
  | { readonly kind: 'sizeMismatch' }
  /** Strict only: one has allocated, zeroed or stored it otherwise. */
  | { readonly kind: 'statusMismatch'; readonly guestOffset: number }
  /** A table entry of one side leads nowhere. */
  | { readonly kind: 'statusFailed'; readonly side: Side; readonly guestOffset: number; readonly error: EngineError }
  | { readonly kind: 'readFailed'; readonly side: Side; readonly guestOffset: number; readonly error: EngineError };

/** Bytes compared at a time. */
const BUFFER = 1024 * 1024;
/** Differences are told to the sector. */
const SECTOR = 512;

/**
 * Compares what two chains hold for the guest. Ranges that are zeroes on both sides, and ranges that both get from the same place of the
 * same file, are not read. Progress counts guest bytes of the longer disk.
 * @throws EngineError when a chain cannot be opened for reading; `cancelled`
 */
export async function compareChains(a: OpenedChain, b: OpenedChain, options: CompareOptions = {}): Promise<Comparison> {
  const pace = new Pace(options);
  const sides = { a: await CompareSide.open('a', a, options, pace), b: await CompareSide.open('b', b, options, pace) };
  try {
    return await compareSides(sides.a, sides.b, options.strict === true, pace);
  } catch (error) {
    if (error instanceof SideFailure) {
      return error.comparison;
    }
    throw error;
  }
}

async function compareSides(a: CompareSide, b: CompareSide, strict: boolean, pace: Pace): Promise<Comparison> {
  const common = Math.min(a.size, b.size);
  const total = Math.max(a.size, b.size);
  if (strict && a.size !== b.size) {
    return { kind: 'sizeMismatch' };
  }
  let offset = 0;
  while (offset < common) {
    const left = a.extent(offset, common);
    const right = b.extent(offset, common);
    if (left.flags !== right.flags) {
      return { kind: 'statusMismatch', guestOffset: offset };
    }
    let length = Math.min(left.length, right.length);
    if (!(left.zero && right.zero) && !isSamePlace(left, right)) {
      length = Math.min(length, BUFFER);
      const difference = firstDifference(left.zero ? null : a.bytes(offset, length), right.zero ? null : b.bytes(offset, length), length);
      if (difference >= 0) {
        return { kind: 'contentMismatch', guestOffset: offset + difference, sizesDiffer: false };
      }
    }
    offset += length;
    if (pace.due()) {
      await pace.turn(offset, total);
    }
  }
  const longer = a.size > b.size ? a : b;
  while (offset < total) {
    const extent = longer.extent(offset, total);
    let { length } = extent;
    if (!extent.zero) {
      length = Math.min(length, BUFFER);
      const difference = firstDifference(longer.bytes(offset, length), null, length);
      if (difference >= 0) {
        return { kind: 'contentMismatch', guestOffset: offset + difference, sizesDiffer: true };
      }
    }
    offset += length;
    if (pace.due()) {
      await pace.turn(offset, total);
    }
  }
  return { kind: 'identical', sizesDiffer: a.size !== b.size };
}

/** A stretch of one side. */
interface CompareExtent {
  readonly zero: boolean;
  readonly length: number;
  /** Status as QEMU has it in a strict comparison; 0 otherwise. */
  readonly flags: number;
  readonly place: Place | null;
}

/** The file that bytes come from, and where in it. */
interface Place {
  readonly file: string;
  readonly hostOffset: number;
  readonly compressed: boolean;
}

class CompareSide {
  readonly size: number;
  private readonly side: Side;
  private readonly reader: ChainReader;
  private readonly strict: QemuChainStatus | null;
  private readonly files: readonly { readonly source: FileSource | null; readonly identity: string; readonly sparse: boolean }[];
  private readonly buffer = Buffer.allocUnsafe(BUFFER);
  /** The last answer, which is often longer than the other side's: what remains of it need not be asked again. */
  private current: (CompareExtent & { readonly start: number }) | null = null;

  private constructor(side: Side, chain: OpenedChain, ciphers: CompareOptions['ciphers'], strict: QemuChainStatus | null) {
    this.side = side;
    this.reader = openReader(chain, { ciphers });
    this.size = this.reader.size;
    this.strict = strict;
    this.files = chain.layers.map((layer) => {
      const source = dataSource(layer);
      const file = source instanceof FileSource ? source : null;
      const identity = file ? fileKey(file.identity) : '';
      return { identity, source: file, sparse: file !== null && file.allocatedBytes < file.size };
    });
  }

  static async open(side: Side, chain: OpenedChain, options: CompareOptions, pace: Pace): Promise<CompareSide> {
    return new CompareSide(side, chain, options.ciphers, options.strict ? await QemuChainStatus.open(chain.layers, pace) : null);
  }

  /** What is at `offset`, up to `end` at most. */
  extent(offset: number, end: number): CompareExtent {
    const { current } = this;
    // A strict comparison asks anew at each step, as qemu-img does: how far an answer reaches is part of it.
    if (current && !this.strict && current.start <= offset && offset < current.start + current.length) {
      const skipped = offset - current.start;
      const length = Math.min(current.length - skipped, end - offset);
      return { ...current, length, place: current.place && later(current.place, skipped) };
    }
    try {
      const extent = this.strict ? strictExtent(this.strict, offset, this.size) : this.place(offset);
      this.current = { ...extent, start: offset };
      return { ...extent, length: Math.min(extent.length, end - offset) };
    } catch (error) {
      throw this.failure('statusFailed', offset, error);
    }
  }

  /** Guest bytes; valid until the next call. */
  bytes(offset: number, length: number): Buffer {
    const target = this.buffer.subarray(0, length);
    try {
      this.reader.read(offset, target);
    } catch (error) {
      throw this.failure('readFailed', offset, error);
    }
    return target;
  }

  private place(offset: number): CompareExtent {
    const { depth, class: kind, length, hostOffset, compressed } = this.reader.blockStatus(offset, this.size - offset);
    const file = depth === null ? null : this.files[depth]!;
    if (!file || kind === 'zero' || kind === 'unallocated') {
      return { length, zero: true, flags: 0, place: null };
    }
    if (compressed) {
      return { length, zero: false, flags: 0, place: { file: file.identity, hostOffset: compressed.hostOffset, compressed: true } };
    }
    const place = { file: file.identity, hostOffset: hostOffset!, compressed: false };
    if (file.sparse && file.source) {
      // Preallocated clusters that were never written are holes of the file.
      const beyond = hostOffset! >= file.source.size;
      const hole = beyond ? { length, data: false } : file.source.extentAt(hostOffset!);
      return { flags: 0, zero: !hole.data, length: Math.min(length, hole.length), place };
    }
    return { length, flags: 0, zero: false, place };
  }

  private failure(kind: 'statusFailed' | 'readFailed', guestOffset: number, error: unknown): unknown {
    return error instanceof EngineError ? new SideFailure({ kind, guestOffset, error, side: this.side }) : error;
  }
}

/** Ends a comparison from within. */
class SideFailure extends Error {
  readonly comparison: Comparison;

  constructor(comparison: Comparison) {
    super(comparison.kind);
    this.comparison = comparison;
  }
}

function strictExtent(status: QemuChainStatus, offset: number, size: number): CompareExtent {
  const { flags, length } = status.at(offset, size - offset);
  return { flags, length, zero: (flags & STATUS.zero) !== 0 || (flags & STATUS.allocated) === 0, place: null };
}

/** The place `bytes` further on; a compressed cluster is one place, wherever in it one looks. */
function later(place: Place, bytes: number): Place {
  return place.compressed ? place : { ...place, hostOffset: place.hostOffset + bytes };
}

function isSamePlace({ place: left }: CompareExtent, { place: right }: CompareExtent): boolean {
  return (
    left !== null &&
    right !== null &&
    left.file !== '' &&
    left.file === right.file &&
    left.hostOffset === right.hostOffset &&
    left.compressed === right.compressed
  );
}

/** Offset of the first sector in which two stretches differ, -1 when they do not; null stands for zeroes. */
function firstDifference(left: Buffer | null, right: Buffer | null, length: number): number {
  const one = left ?? zeroes(length);
  const other = right ?? zeroes(length);
  if (one.equals(other)) {
    return -1;
  }
  for (let offset = 0; ; offset += SECTOR) {
    const end = Math.min(offset + SECTOR, length);
    if (one.compare(other, offset, end, offset, end) !== 0) {
      return offset;
    }
  }
}

const ZEROES = Buffer.alloc(BUFFER);

function zeroes(length: number): Buffer {
  return ZEROES.subarray(0, length);
}
