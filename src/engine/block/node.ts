import type { GuestClass } from '../../protocol/inspect';
import type { LayerView } from '../../protocol/place';
import { invalidFormat, invalidRequest } from '../errors';
import type { CompressedDescriptor, LayerStatus } from '../formats/extent';
import type { ClusterCipher } from '../formats/qcow2/crypto/clusterCipher';
import { CompressedClusters } from '../formats/qcow2/reader';
import { SECTOR_SIZE } from '../formats/raw/size';
import type { ByteSource } from '../io/source';
import { requireComplete, requireReadable } from './complete';
import type { Layer, OpenedChain } from './layer';
import { ACTIVE_VIEW, dataSource, layerStatus } from './status';

/** A stretch of guest bytes that one layer of the chain supplies, or none. */
export interface ChainExtent {
  /** `unallocated`: in no layer; the bytes read as zero. */
  readonly class: Exclude<GuestClass, 'unknown'>;
  /** Bytes, at least 1. */
  readonly length: number;
  /** Index in `chain.layers` of the layer that supplies the bytes; null when none does. */
  readonly depth: number | null;
  /** Byte offset in the file that holds that layer's data; null when the bytes have no place of their own in it. */
  readonly hostOffset: number | null;
  readonly compressed: CompressedDescriptor | null;
}

/** The guest's bytes, as a virtual machine would read them. */
export interface ChainReader {
  /** Size of the disk in bytes. */
  readonly size: number;
  /**
   * Fills `target` with the guest bytes from `guestOffset` on.
   * @throws EngineError `format.invalid` for a table entry that no driver follows, `data.undecodable`, `file.io`, `request.invalid` for a
   * range outside the disk
   */
  read(guestOffset: number, target: Uint8Array): void;
  /**
   * Which layer supplies the bytes from `guestOffset` on, and from where, as far as one answer reaches but at most `length` bytes.
   * @throws as `read`
   */
  blockStatus(guestOffset: number, length: number): ChainExtent;
}

export interface ReaderOptions {
  /** Reads an internal snapshot of the first layer instead of its active state. */
  readonly view?: LayerView | undefined;
  /** Index of the layer to start from; what is above it is left out. */
  readonly from?: number | undefined;
  /** Bound in bytes for the tables and decompressed clusters that are kept, over all layers. */
  readonly cacheBytes?: number | undefined;
  /** The ciphers of the layers that are encrypted, as `unlockChain` gives them. */
  readonly ciphers?: ReadonlyMap<Layer, ClusterCipher> | undefined;
}

const DEFAULT_CACHE = 32 * 1024 * 1024;
/** However long the chain, a layer keeps this much of its tables: below it every request would read them again. */
const LEAST_CACHE = 32 * 1024;

/**
 * Opens a chain for reading its guest bytes; strict, as QEMU's drivers are. The chain stays the caller's to close.
 * @throws EngineError when a part of the chain is not open or a driver would refuse it, `data.encrypted`
 */
export function openReader(chain: OpenedChain, options: ReaderOptions = {}): ChainReader {
  const { view = ACTIVE_VIEW, from = 0, cacheBytes = DEFAULT_CACHE, ciphers } = options;
  requireComplete(chain);
  const layers = chain.layers.slice(from);
  const share = Math.max(LEAST_CACHE, Math.floor(cacheBytes / 2 / Math.max(1, layers.length)));
  const compressed = new CompressedClusters(cacheBytes / 2);
  return new LayerStack(
    layers.map(
      (layer, index) => new ReadableLayer(layer, index === 0 ? view : ACTIVE_VIEW, share, compressed, ciphers?.get(layer) ?? null),
    ),
  );
}

class ReadableLayer {
  readonly layer: Layer;
  readonly status: LayerStatus;
  readonly size: number;
  /** Where the data lies. */
  readonly source: ByteSource;
  /** Every byte is where it is: no need to ask where. */
  readonly linear: boolean;
  private readonly compressed: CompressedClusters;
  private readonly cipher: ClusterCipher | null;

  constructor(layer: Layer, view: LayerView, cacheBytes: number, compressed: CompressedClusters, cipher: ClusterCipher | null) {
    requireReadable(layer, cipher !== null);
    const source = dataSource(layer);
    if (!source) {
      throw invalidRequest(`The data file of ${layer.filename} is not open.`);
    }
    this.layer = layer;
    this.source = source;
    this.status = layerStatus(layer, view, cacheBytes);
    this.size = this.status.size;
    this.linear = layer.detail.format === 'raw';
    this.compressed = compressed;
    this.cipher = cipher;
  }

  readData(hostOffset: number, guestOffset: number, target: Uint8Array): void {
    if (!this.cipher) {
      this.readPlain(hostOffset, target);
      return;
    }
    // Whole sectors are decrypted; guest and host offset are alike inside a sector.
    const before = guestOffset % SECTOR_SIZE;
    const sectors = new Uint8Array(Math.ceil((before + target.length) / SECTOR_SIZE) * SECTOR_SIZE);
    this.readPlain(hostOffset - before, sectors);
    this.cipher.decrypt(sectors, (this.cipher.addressedBy === 'hostOffset' ? hostOffset : guestOffset) - before);
    target.set(sectors.subarray(before, before + target.length));
  }

  /** What lies past the end of the file reads as zero. */
  private readPlain(hostOffset: number, target: Uint8Array): void {
    const count = this.source.read(target, hostOffset);
    if (count < target.length) {
      target.fill(0, count);
    }
  }

  readCompressed(descriptor: CompressedDescriptor, guestOffset: number, target: Uint8Array): void {
    const { detail, depth } = this.layer;
    if (detail.format !== 'qcow2') {
      throw new RangeError('only qcow2 has compressed clusters');
    }
    const cluster = this.compressed.cluster(depth, detail.metadata, descriptor);
    const within = guestOffset - descriptor.guestOffset;
    target.set(cluster.subarray(within, within + target.length));
  }
}

class LayerStack implements ChainReader {
  readonly size: number;
  private readonly layers: readonly ReadableLayer[];

  constructor(layers: readonly ReadableLayer[]) {
    const active = layers[0];
    if (!active) {
      throw invalidRequest('The chain has no such layer.');
    }
    this.layers = layers;
    this.size = active.size;
  }

  read(guestOffset: number, target: Uint8Array): void {
    this.requireInside(guestOffset, target.length);
    let done = 0;
    while (done < target.length) {
      const extent = this.locate(guestOffset + done, target.length - done, false);
      const part = target.subarray(done, done + extent.length);
      const layer = extent.depth === null ? null : this.layers[extent.depth]!;
      if (layer && extent.class === 'data') {
        layer.readData(extent.hostOffset!, guestOffset + done, part);
      } else if (layer && extent.compressed) {
        layer.readCompressed(extent.compressed, guestOffset + done, part);
      } else {
        part.fill(0);
      }
      done += extent.length;
    }
  }

  blockStatus(guestOffset: number, length: number): ChainExtent {
    this.requireInside(guestOffset, 1);
    const extent = this.locate(guestOffset, Math.min(length, this.size - guestOffset), true);
    return extent.depth === null ? extent : { ...extent, depth: this.layers[extent.depth]!.layer.depth };
  }

  /** Asks one layer after the other, each for what the one above leaves to it. `depth` counts in `this.layers`. */
  private locate(guestOffset: number, length: number, holes: boolean): ChainExtent {
    let rest = length;
    for (let depth = 0; depth < this.layers.length; depth++) {
      const layer = this.layers[depth]!;
      if (guestOffset >= layer.size) {
        // A smaller backing file ends here; what a larger one below it holds is not seen through it.
        break;
      }
      rest = Math.min(rest, layer.size - guestOffset);
      if (layer.linear && !holes) {
        return { class: 'data', length: rest, depth, hostOffset: guestOffset, compressed: null };
      }
      const extent = layer.status.blockStatus(guestOffset, rest);
      if (extent.class === 'unknown') {
        const { structure, hostOffset, message } = extent.problem!;
        throw invalidFormat(layer.layer.source.name, structure, hostOffset, message);
      }
      if (extent.class !== 'unallocated') {
        return { class: extent.class, length: extent.length, depth, hostOffset: extent.hostOffset, compressed: extent.compressed };
      }
      rest = extent.length;
    }
    return { class: 'unallocated', length: rest, depth: null, hostOffset: null, compressed: null };
  }

  private requireInside(guestOffset: number, length: number): void {
    if (!(guestOffset >= 0 && length >= 0 && guestOffset + length <= this.size)) {
      throw invalidRequest(`${length} bytes at guest offset ${guestOffset} reach past the end of the disk of ${this.size} bytes.`);
    }
  }
}
