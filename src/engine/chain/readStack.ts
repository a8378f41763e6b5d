import { isPromise, type Awaitable } from '../awaitable';
import type { GuestClass } from '../../protocol/inspect';
import { EngineError, invalidFormat, invalidRequest } from '../errors';
import type { CompressedDescriptor, GuestExtent, LayerStatus } from '../formats/extent';
import { NotLoaded } from '../io/loading';
import type { ByteSource } from '../io/source';
import type { BlockNode } from '../block/blockNode';
import { ExtentWindows } from './extentWindows';

/** One layer of a chain, as reading it needs it: its own allocation, and its own bytes. Over a slow source all may throw `NotLoaded`. */
export interface StackLayer {
  readonly filename: string;
  /** Bytes. */
  readonly size: number;
  /** Every byte is where it is: no need to ask where. */
  readonly linear: boolean;
  /** Guest bytes below which its allocation does not differ; Infinity for linear ones. */
  readonly unit: number;
  readonly status: LayerStatus;
  /** Where the data lies; null where it lies in several files. */
  readonly source: ByteSource | null;
  /** What `status` says; where data lies in a file as it is, that file's holes are zeroes. */
  blockStatusWithHoles(guestOffset: number, length: number): GuestExtent;
  /** @param source the file that the host offset counts in; null for the layer's own */
  readData(source: ByteSource | null, hostOffset: number, guestOffset: number, target: Uint8Array): void;
  readCompressed(descriptor: CompressedDescriptor, guestOffset: number, target: Uint8Array): void;
}

/** A stretch of guest bytes that one of several layers supplies, or none. */
export interface SuppliedExtent {
  /** `unallocated`: no layer has the bytes. */
  readonly class: Exclude<GuestClass, 'unknown'>;
  /** Bytes, at least 1. */
  readonly length: number;
  /** Index of the layer that supplies the bytes, from the top; null when none does. */
  readonly depth: number | null;
  /** Byte offset in the file that holds that layer's data; null when the bytes have no place of their own in it. */
  readonly hostOffset: number | null;
  readonly compressed: CompressedDescriptor | null;
  /** That file, where the layer's data lies in several (VMDK); null for the one it has. */
  readonly source: ByteSource | null;
}

/** Where no layer of a stack has the bytes they are what the node below the stack has there, and zero where `below` is false. */
export interface StackExtent extends SuppliedExtent {
  /** Whether a node below the stack is asked for unallocated bytes: no layer ended before them. */
  readonly below: boolean;
}

/**
 * Layers that nobody changes, read as one: which layer supplies a stretch of guest bytes is found out once, from the top down, and kept, so
 * that a read costs the same however deep the stack.
 */
export class ReadStack {
  /** Bytes. */
  readonly size: number;
  private readonly layers: readonly StackLayer[];
  private readonly windows: ExtentWindows;

  /**
   * @param layers active layer first, at least one
   * @param cacheBytes bound for what is kept
   */
  constructor(layers: readonly StackLayer[], cacheBytes: number) {
    const active = layers[0];
    if (!active) {
      throw invalidRequest('The chain has no such layer.');
    }
    this.layers = layers;
    this.size = active.size;
    const unit = layers.reduce((least, layer) => Math.min(least, layer.unit), Infinity);
    this.windows = new ExtentWindows(unit, cacheBytes);
  }

  /**
   * Fills `target` with guest bytes.
   * @param below what unallocated bytes are read from; null for zeroes
   * @throws EngineError `format.invalid` for a table entry that no driver follows, `data.undecodable`, `file.io`
   */
  read(guestOffset: number, target: Uint8Array, below: BlockNode | null = null): Awaitable<void> {
    for (let done = 0; done < target.length;) {
      const extent = this.place(guestOffset + done, target.length - done);
      const part = target.length === extent.length ? target : target.subarray(done, done + extent.length);
      const offset = guestOffset + done;
      done += extent.length;
      if (extent.class === 'data') {
        this.layers[extent.depth!]!.readData(extent.source, extent.hostOffset!, offset, part);
      } else if (extent.compressed) {
        this.layers[extent.depth!]!.readCompressed(extent.compressed, offset, part);
      } else if (extent.class === 'unallocated' && extent.below && below !== null) {
        const waiting = readBelow(below, offset, part);
        if (isPromise(waiting)) {
          return waiting.then(() => this.read(guestOffset + done, target.subarray(done), below));
        }
      } else {
        part.fill(0);
      }
    }
  }

  /**
   * Fills `target` where it is known already that one stretch of plain data is all there is to it: most reads, with no object made for them.
   * @returns false where more has to be looked at, or fetched
   * @throws EngineError `file.io`
   */
  readKnown(guestOffset: number, target: Uint8Array): boolean {
    const { windows } = this;
    if (!windows.findData(guestOffset, target.length)) {
      return false;
    }
    const { depth, source, hostOffset } = windows.found;
    try {
      this.layers[depth]!.readData(source, hostOffset, guestOffset, target);
    } catch (error) {
      if (!(error instanceof NotLoaded)) {
        throw error;
      }
      return false;
    }
    return true;
  }

  /** See `BlockNode`: of the first extent, as far as it is known already. */
  willRead(guestOffset: number, length: number, below: BlockNode | null): void {
    const extent = this.windows.extent(guestOffset, length);
    if (extent?.class === 'data') {
      const source = extent.source ?? this.layers[extent.depth!]!.source;
      source?.willRead?.(extent.hostOffset!, extent.length);
    } else if (extent?.below) {
      below?.willRead?.(guestOffset, extent.length);
    }
  }

  /**
   * Which layer supplies the bytes from `guestOffset` on, as far as one answer reaches but at most `length` bytes; holes of raw files are
   * zeroes. Nothing is kept: a walk over a large disk that is nearly empty is to take large steps.
   */
  blockStatus(guestOffset: number, length: number): StackExtent {
    return this.walk(guestOffset, length, true);
  }

  /** The same, for reading: from what is kept. Holes of raw files are data. @param length at least 1, inside the disk */
  place(guestOffset: number, length: number): StackExtent {
    const kept = this.windows.extent(guestOffset, length);
    if (kept) {
      return kept;
    }
    const { start, end } = this.windows.around(guestOffset);
    try {
      this.windows.keep(guestOffset, this.resolve(start, Math.min(end, this.size)));
    } catch (error) {
      if (!(error instanceof EngineError)) {
        throw error;
      }
      // Something else in the window is damaged: it concerns those who read it.
      return this.walk(guestOffset, length, false);
    }
    return this.windows.extent(guestOffset, length)!;
  }

  private resolve(start: number, end: number): StackExtent[] {
    const extents: StackExtent[] = [];
    // Up to where each layer has said that it has nothing: it is not asked again before.
    const nothingUntil = new Float64Array(this.layers.length);
    for (let at = start; at < end;) {
      const extent = this.walk(at, end - at, false, nothingUntil);
      extents.push(extent);
      at += extent.length;
    }
    return extents;
  }

  /** Asks one layer after the other, each for what the one above leaves to it. */
  private walk(guestOffset: number, length: number, holes: boolean, nothingUntil: Float64Array | null = null): StackExtent {
    let rest = length;
    for (let depth = 0; depth < this.layers.length; depth++) {
      const layer = this.layers[depth]!;
      if (guestOffset >= layer.size) {
        // A smaller backing file ends here; what a larger one below it holds is not seen through it.
        return nothing(rest, false);
      }
      rest = Math.min(rest, layer.size - guestOffset);
      if (nothingUntil && nothingUntil[depth]! > guestOffset) {
        rest = Math.min(rest, nothingUntil[depth]! - guestOffset);
        continue;
      }
      if (layer.linear && !holes) {
        return { class: 'data', length: rest, depth, hostOffset: guestOffset, compressed: null, source: null, below: false };
      }
      // With a memory for it the whole answer counts, not only what the layers above left open.
      const wanted = nothingUntil ? Math.min(length, layer.size - guestOffset) : rest;
      const extent = holes ? layer.blockStatusWithHoles(guestOffset, wanted) : layer.status.blockStatus(guestOffset, wanted);
      if (extent.class === 'unknown') {
        const { structure, hostOffset, message } = extent.problem!;
        throw invalidFormat(layer.filename, structure, hostOffset, message);
      }
      if (extent.class !== 'unallocated') {
        const { class: kind, hostOffset, compressed, source = null } = extent;
        return { class: kind, length: Math.min(rest, extent.length), depth, hostOffset, compressed, source, below: false };
      }
      if (nothingUntil) {
        nothingUntil[depth] = guestOffset + extent.length;
      }
      rest = Math.min(rest, extent.length);
    }
    return nothing(rest, true);
  }
}

function nothing(length: number, below: boolean): StackExtent {
  return { class: 'unallocated', length, depth: null, hostOffset: null, compressed: null, source: null, below };
}

/** What the node has there, with zeroes past its end. */
function readBelow(node: BlockNode, guestOffset: number, target: Uint8Array): Awaitable<void> {
  const there = Math.max(0, Math.min(target.length, node.size - guestOffset));
  target.fill(0, there);
  return there > 0 ? node.read(guestOffset, target.subarray(0, there)) : undefined;
}
