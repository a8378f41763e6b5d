import type { LayerView } from '../../protocol/place';
import { invalidRequest } from '../errors';
import type { CompressedDescriptor, GuestExtent, LayerStatus } from '../formats/extent';
import { VmdkGrainMap } from '../formats/vmdk/grainMap';
import { DecompressedGrains } from '../formats/vmdk/grains';
import type { ClusterCipher } from '../formats/qcow2/crypto/clusterCipher';
import { CompressedClusters } from '../formats/qcow2/reader';
import { SECTOR_SIZE } from '../formats/raw/size';
import type { ByteSource } from '../io/source';
import { requireComplete, requireReadable, requireSameParents } from './complete';
import { requireInside } from '../block/inFlight';
import type { Layer, OpenedChain } from './layer';
import { ReadStack, type StackLayer, type SuppliedExtent } from './readStack';
import { ACTIVE_VIEW, allocationUnit, dataSource, layerStatus } from './layerStatus';

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
  blockStatus(guestOffset: number, length: number): SuppliedExtent;
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
  requireSameParents(layers);
  const compressed = { clusters: new CompressedClusters(cacheBytes / 2), grains: new DecompressedGrains(cacheBytes / 4) };
  return new LayerChain(
    layers.map(
      (layer, index) => new ReadableLayer(layer, index === 0 ? view : ACTIVE_VIEW, share, compressed, ciphers?.get(layer) ?? null),
    ),
    cacheBytes / 4,
  );
}

/** What is kept of compressed data, over all layers. */
export interface Decompressed {
  readonly clusters: CompressedClusters;
  readonly grains: DecompressedGrains;
}

/** A layer whose guest bytes can be read. */
export class ReadableLayer implements StackLayer {
  readonly layer: Layer;
  readonly status: LayerStatus;
  readonly size: number;
  /** Where the data lies; null where it lies in several files. */
  readonly source: ByteSource | null;
  readonly filename: string;
  readonly linear: boolean;
  readonly unit: number;
  private readonly compressed: Decompressed;
  private readonly cipher: ClusterCipher | null;

  constructor(layer: Layer, view: LayerView, cacheBytes: number, compressed: Decompressed, cipher: ClusterCipher | null) {
    requireReadable(layer, cipher !== null);
    const source = dataSource(layer);
    if (!source && layer.detail.format === 'qcow2') {
      throw invalidRequest(`The data file of ${layer.filename} is not open.`);
    }
    this.layer = layer;
    this.source = source;
    this.status = layerStatus(layer, view, cacheBytes);
    this.size = this.status.size;
    this.filename = layer.source.name;
    this.linear = layer.detail.format === 'raw';
    this.unit = allocationUnit(layer);
    this.compressed = compressed;
    this.cipher = cipher;
  }

  blockStatusWithHoles(guestOffset: number, length: number): GuestExtent {
    const { status } = this;
    // A raw file's status knows its holes.
    return status instanceof VmdkGrainMap ? status.blockStatusWithHoles(guestOffset, length) : status.blockStatus(guestOffset, length);
  }

  readData(source: ByteSource | null, hostOffset: number, guestOffset: number, target: Uint8Array): void {
    if (!this.cipher) {
      this.readPlain(source ?? this.source, hostOffset, target);
      return;
    }
    // Whole sectors are decrypted; guest and host offset are alike inside a sector.
    const before = guestOffset % SECTOR_SIZE;
    const sectors = new Uint8Array(Math.ceil((before + target.length) / SECTOR_SIZE) * SECTOR_SIZE);
    this.readPlain(this.source, hostOffset - before, sectors);
    this.cipher.decrypt(sectors, (this.cipher.addressedBy === 'hostOffset' ? hostOffset : guestOffset) - before);
    target.set(sectors.subarray(before, before + target.length));
  }

  /** What lies past the end of the file reads as zero. */
  private readPlain(source: ByteSource | null, hostOffset: number, target: Uint8Array): void {
    if (!source) {
      throw new RangeError('an extent of a layer with several files says in which it is');
    }
    const count = source.read(target, hostOffset);
    if (count < target.length) {
      target.fill(0, count);
    }
  }

  readCompressed(descriptor: CompressedDescriptor, guestOffset: number, target: Uint8Array): void {
    const { detail, depth } = this.layer;
    if (this.status instanceof VmdkGrainMap) {
      this.compressed.grains.read(depth, this.status, descriptor, guestOffset, target);
      return;
    }
    if (detail.format !== 'qcow2') {
      throw new RangeError('only qcow2 and VMDK have compressed data');
    }
    const cluster = this.compressed.clusters.cluster(depth, detail.metadata, descriptor);
    const within = guestOffset - descriptor.guestOffset;
    target.set(cluster.subarray(within, within + target.length));
  }
}

/** A chain's layers, read as one. */
class LayerChain implements ChainReader {
  readonly size: number;
  private readonly layers: readonly ReadableLayer[];
  private readonly stack: ReadStack;

  constructor(layers: readonly ReadableLayer[], cacheBytes: number) {
    this.layers = layers;
    this.stack = new ReadStack(layers, cacheBytes);
    this.size = this.stack.size;
  }

  read(guestOffset: number, target: Uint8Array): void {
    requireInside(guestOffset, target.length, this.size);
    // Without a node below there is nothing to wait for.
    void this.stack.read(guestOffset, target);
  }

  blockStatus(guestOffset: number, length: number): SuppliedExtent {
    requireInside(guestOffset, 1, this.size);
    const extent = this.stack.blockStatus(guestOffset, Math.min(length, this.size - guestOffset));
    return extent.depth === null ? extent : { ...extent, depth: this.layers[extent.depth]!.layer.depth };
  }
}
