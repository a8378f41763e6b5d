import type { HostClass, Region } from '../../../protocol/inspect';
import type { Place } from '../../../protocol/place';
import type { Layer } from '../../chain/layer';
import { isCancelled } from '../../errors';
import { Pace, type PaceOptions } from '../../pace';
import { structuresOf } from '../overview/overview';
import type { Qcow2Context } from '../qcow2Context';
import { lookUpRefcount } from '../tables/refcountLookup';
import { hex } from '../wording';
import { qcow2References, qedReferences, type DataReference, type FoundReferences } from './dataReferences';
import { paint, type Claim } from './paint';
import { qcow2Structures } from './qcow2Structures';
import { qedStructures } from './qedStructures';

/** Who refers to a host cluster. */
export interface ClusterReferences {
  readonly count: number;
  readonly claims: readonly Claim[];
  readonly data: readonly DataReference[];
}

/**
 * A pass over all L2 tables looks for this much of the file at once, around what is asked for: it costs the same, and the neighbourhood
 * is what a person looks at next.
 */
const BLOCK_BYTES = 4 * 1024 * 1024;
const BLOCK_CLUSTERS = 64;
/** Blocks that are remembered. */
const MAX_BLOCKS = 16;

/** What was found out about blocks of the file; the ones not asked for longest are forgotten. */
class BlockCache<T> {
  private readonly known = new Map<number, T>();

  get(block: number): T | undefined {
    return this.known.get(block);
  }

  set(block: number, value: T): void {
    this.known.delete(block);
    this.known.set(block, value);
    if (this.known.size > MAX_BLOCKS) {
      this.known.delete(this.known.keys().next().value!);
    }
  }
}

/** Says what the bytes of one image's file are. */
export class HostNames {
  private readonly layer: Layer;
  private readonly qcow2: Qcow2Context | null;
  private readonly blocks = new BlockCache<FoundReferences>();
  private readonly structureBlocks = new BlockCache<readonly Claim[]>();

  constructor(layer: Layer, qcow2: Qcow2Context | null) {
    this.layer = layer;
    this.qcow2 = qcow2;
  }

  /** Bytes; null where the file has no clusters that can be told apart. */
  get clusterSize(): number | null {
    const { detail } = this.layer;
    return (detail.format === 'qcow2' || detail.format === 'qed') && detail.metadata.tablesReadable ? detail.metadata.clusterSize : null;
  }

  /**
   * The regions that [from, to) consists of.
   * @param patienceMs how long to look for the guest offsets of data; afterwards it is named as data only
   * @throws EngineError `cancelled`
   */
  async regions(from: number, to: number, options: PaceOptions, patienceMs = Infinity): Promise<Region[]> {
    const { clusterSize } = this;
    if (clusterSize === null) {
      return paint(from, to, this.plainClaims(), (start, end) => [this.plainRegion(start, end)]);
    }
    const low = Math.floor(from / clusterSize) * clusterSize;
    const high = Math.ceil(to / clusterSize) * clusterSize;
    const claims = await this.structures(low, high, new Pace(options));
    // Data is looked for only where something is left that is not metadata and in use.
    const data = this.hasData(low, high, claims) ? await this.patientReferences(low, high, options, patienceMs) : [];
    const all = [...claims, ...(data ?? []).map((reference) => this.dataClaim(reference))];
    return paint(from, to, all, (start, end) => this.restRegions(start, end, data !== null));
  }

  /** Everything that refers to the cluster at `hostOffset`. */
  async references(hostOffset: number, options: PaceOptions): Promise<ClusterReferences> {
    const { clusterSize } = this;
    if (clusterSize === null) {
      return { count: 0, claims: [], data: [] };
    }
    const low = Math.floor(hostOffset / clusterSize) * clusterSize;
    const claims = await this.structures(low, low + clusterSize, new Pace(options));
    const { references, count } = await this.dataReferences(low, low + clusterSize, options);
    return { claims, data: references, count: claims.length + count };
  }

  /** Metadata in [low, high); what reaches over several blocks may be named more than once. */
  private async structures(low: number, high: number, pace: Pace): Promise<Claim[]> {
    const size = this.blockSize;
    const found: Claim[] = [];
    for (let block = Math.floor(low / size); block * size < high; block++) {
      const known = this.structureBlocks.get(block) ?? (await this.scanStructures(block * size, (block + 1) * size, pace));
      this.structureBlocks.set(block, known);
      found.push(...known);
    }
    return found.filter(({ start, end }) => start < high && end > low);
  }

  private async scanStructures(from: number, to: number, pace: Pace): Promise<Claim[]> {
    const { detail } = this.layer;
    if (this.qcow2) {
      return qcow2Structures(this.qcow2, from, to, pace);
    }
    return detail.format === 'qed' ? qedStructures(detail.metadata, from, to, pace) : [];
  }

  private get blockSize(): number {
    return Math.max(BLOCK_BYTES, (this.clusterSize ?? 0) * BLOCK_CLUSTERS);
  }

  private hasData(low: number, high: number, claims: readonly Claim[]): boolean {
    return paint(low, high, claims, (start, end) => [plain(start, end, 'data', '')]).some(({ label, hostOffset, length }) => {
      if (label !== '') {
        return false;
      }
      return this.clustersOf(hostOffset, hostOffset + length).some((cluster) => this.refcount(cluster) !== 0n);
    });
  }

  /** Null when patience ran out. */
  private async patientReferences(
    low: number,
    high: number,
    options: PaceOptions,
    patienceMs: number,
  ): Promise<readonly DataReference[] | null> {
    if (patienceMs === Infinity) {
      return (await this.dataReferences(low, high, options)).references;
    }
    const signal = AbortSignal.any([AbortSignal.timeout(patienceMs), ...(options.signal ? [options.signal] : [])]);
    try {
      return (await this.dataReferences(low, high, { ...options, signal })).references;
    } catch (error) {
      if (isCancelled(error) && !options.signal?.aborted) {
        return null;
      }
      throw error;
    }
  }

  /** References to [low, high), from the blocks of the file that are remembered or one pass that fills them. */
  private async dataReferences(low: number, high: number, options: PaceOptions): Promise<FoundReferences> {
    const size = this.blockSize;
    const first = Math.floor(low / size);
    const last = Math.floor((high - 1) / size);
    const found: FoundReferences = { references: [], count: 0 };
    for (let block = first; block <= last; block++) {
      const known = this.blocks.get(block) ?? (await this.scan(block * size, (block + 1) * size, options));
      this.blocks.set(block, known);
      const inside = known.references.filter(({ start, end }) => start < high && end > low && (block === first || start >= block * size));
      found.references.push(...inside);
      // References beyond what a block lists cannot be told apart; a cluster with so many is counted with all of them.
      found.count += inside.length + (known.count - known.references.length);
    }
    return found;
  }

  private async scan(from: number, to: number, options: PaceOptions): Promise<FoundReferences> {
    const { detail } = this.layer;
    const pace = new Pace(options);
    if (this.qcow2) {
      return qcow2References(this.qcow2, from, to, pace);
    }
    return detail.format === 'qed' ? qedReferences(detail.metadata, from, to, pace) : { references: [], count: 0 };
  }

  private dataClaim({ start, end, compressed, view, row }: DataReference): Claim {
    const guestOffset = row * (this.clusterSize ?? 0);
    const of = this.qcow2?.view(view).suffix ?? '';
    const place: Place =
      view.kind === 'active'
        ? { kind: 'guest', guestOffset, length: this.clusterSize ?? 0 }
        : { kind: 'tableRow', table: { kind: 'l2', view }, row };
    const label = `${compressed ? 'compressed data' : 'data'} of guest offset ${hex(guestOffset)}${of}`;
    return { start, end, label, place, class: compressed ? 'compressed' : 'data' };
  }

  /** What no structure and no guest cluster claims, cluster by cluster: free, leaked, or past what refcounts say. */
  private restRegions(start: number, end: number, searched: boolean): Region[] {
    const clusterSize = this.clusterSize ?? 0;
    const regions: Region[] = [];
    for (const cluster of this.clustersOf(start, end)) {
      const from = Math.max(start, cluster * clusterSize);
      const to = Math.min(end, (cluster + 1) * clusterSize);
      const region = this.unclaimed(cluster, from, to, searched);
      const last = regions.at(-1);
      if (last?.class === region.class && last.label === region.label) {
        regions[regions.length - 1] = { ...last, length: last.length + region.length };
      } else {
        regions.push(region);
      }
    }
    return regions;
  }

  private unclaimed(cluster: number, from: number, to: number, searched: boolean): Region {
    const refcount = this.refcount(cluster);
    const place: Place | null = this.qcow2 ? { kind: 'tableRow', table: { kind: 'refcounts' }, row: cluster } : null;
    if (refcount === 0n) {
      return { ...plain(from, to, 'free', 'free'), place };
    }
    if (!searched) {
      return { ...plain(from, to, 'data', 'data, of a guest offset that was not looked up'), place };
    }
    if (from % (this.clusterSize ?? 1) !== 0) {
      // The rest of a cluster that compressed data fills in part.
      return { ...plain(from, to, 'compressed', 'unused rest of a cluster'), place };
    }
    const label = refcount === null ? 'leaked: nothing refers to it' : `leaked: refcount ${refcount}, nothing refers to it`;
    return { ...plain(from, to, 'leaked', label), place };
  }

  private clustersOf(start: number, end: number): number[] {
    const clusterSize = this.clusterSize ?? 1;
    const first = Math.floor(start / clusterSize);
    return Array.from({ length: Math.ceil(end / clusterSize) - first }, (_, index) => first + index);
  }

  /** Null where the format counts none. */
  private refcount(cluster: number): bigint | null {
    return this.qcow2 ? lookUpRefcount(this.qcow2.metadata, cluster).count : null;
  }

  /** Structures of a file that is not divided into clusters, or whose clusters cannot be told. */
  private plainClaims(): Claim[] {
    return this.layer.detail.format === 'raw'
      ? []
      : structuresOf(this.layer).map(({ hostOffset, length, title }) => ({
          start: hostOffset,
          end: hostOffset + length,
          class: 'header',
          label: title,
          place: { kind: 'host', hostOffset },
        }));
  }

  /** A file that is not divided into clusters. */
  private plainRegion(from: number, to: number): Region {
    const { detail } = this.layer;
    if (detail.format === 'raw') {
      return {
        ...plain(from, to, 'data', 'raw data: the guest offset is the same'),
        place: { kind: 'guest', guestOffset: from, length: to - from },
      };
    }
    return plain(
      from,
      to,
      'data',
      detail.format === 'vmdk' ? 'VMDK data is not looked into' : 'the header makes no sense: not looked into',
    );
  }
}

function plain(from: number, to: number, hostClass: HostClass, label: string): Region {
  return { hostOffset: from, length: to - from, class: hostClass, label, place: null };
}
